//! Runs a verified module in the sandbox, for what a hit really costs. The agent does the same in a target.
#![expect(unsafe_code, reason = "the shards of maps and the ring are raw memory to the sandbox")]

use std::ptr::NonNull;
use std::sync::LazyLock;

use trocar_abi::hit::HitFrame;
use trocar_abi::import::errno::EFAULT;
use trocar_compile::Verified;
use trocar_package::ParamValue;
use trocar_ring::Producer;
use trocar_sandbox::{Arguments, Env, Hit, Instance, Loaded, Maps, Outcome, Rate, Target, configure};
use wasmtime::{Config, Engine, Module};

/// Fuel that no hit here uses up.
const PLENTY: u64 = 1 << 40;
/// Bytes of the ring; no test writes as much.
const RING: usize = 1 << 20;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config).unwrap()
});

/// The target: pieces of memory by address.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub Vec<(u64, Vec<u8>)>);

impl Target for Memory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32> {
        for (start, bytes) in &self.0 {
            let at = address.checked_sub(*start).and_then(|at| usize::try_from(at).ok());
            if let Some(from) = at.and_then(|at| bytes.get(at..at.checked_add(to.len())?)) {
                to.copy_from_slice(from);
                return Ok(());
            }
        }
        Err(EFAULT)
    }

    fn time_ns(&self) -> u64 {
        1
    }

    fn real_time_ns(&self) -> u64 {
        2
    }

    fn cpu(&self) -> u32 {
        0
    }

    fn function(&self, _: u32) -> u32 {
        5
    }

    fn place(&self, _: &HitFrame, _: u32) -> (u64, u64) {
        (0, 0)
    }
}

/// Registers that are all zero.
pub const NO_REGISTERS: HitFrame = HitFrame {
    xmm: [[0; 2]; 16],
    mxcsr: 0,
    site: 0,
    rbx: 0,
    r15: 0,
    r14: 0,
    r13: 0,
    r12: 0,
    r11: 0,
    r10: 0,
    r9: 0,
    r8: 0,
    rdi: 0,
    rsi: 0,
    rdx: 0,
    rax: 0,
    rflags: 0,
    rbp: 0,
    trampoline: 0,
    rcx: 0,
};

/// A verified module, ready for hits.
#[derive(Debug)]
pub struct Machine {
    instance: Instance,
    shard: *const u64,
    words: usize,
}

impl Machine {
    /// An instance with the default parameters, in a target with this memory.
    pub fn new(verified: &Verified, memory: Memory) -> Self {
        let (specs, bytes) = verified.manifest.map_specs();
        let shard = vec![0u64; usize::try_from(bytes / 8).unwrap()].leak();
        let words = shard.len();
        let shard = shard.as_mut_ptr();
        // SAFETY: INVARIANT (shards): `map_specs` laid the maps out in so many bytes; only this instance writes them.
        let maps = unsafe { Maps::new(shard.cast(), specs.leak()) };
        let shared = vec![0u64; 8 + RING / 8].leak().as_mut_ptr();
        // SAFETY: head, tail and data are distinct words of a buffer that lives for ever and that nobody else uses.
        let ring = unsafe {
            Producer::new(shared, shared.wrapping_add(1), shared.wrapping_add(8).cast(), RING as u64)
        };
        let (mut params, mut strings) = (Vec::new(), Vec::new());
        for value in verified.manifest.resolve_params(&[]).unwrap() {
            params.push(match value {
                ParamValue::Int(n) => n.cast_unsigned(),
                ParamValue::Str(text) => {
                    strings.extend_from_slice(text.as_bytes());
                    (strings.len() as u64 - text.len() as u64) << 32 | text.len() as u64
                }
            });
        }
        let env = Env {
            maps,
            ring: ring.unwrap(),
            params: params.leak(),
            strings: strings.leak(),
            arguments: Arguments::SystemV,
            rate: Rate::unlimited(),
            seed: 1,
        };
        let module = Module::new(&ENGINE, &verified.wasm).unwrap();
        let handlers: Vec<&str> = verified.handlers.iter().map(|h| h.name.as_str()).collect();
        let loaded = Loaded::new(&ENGINE, &module, &handlers).unwrap();
        let memory_max = usize::try_from(verified.memory_limit).unwrap();
        let target = Box::leak(Box::new(memory));
        let instance = Instance::new(&loaded, env, target, PLENTY, PLENTY, memory_max).unwrap();
        Self { instance, shard, words }
    }

    /// The maps as they are.
    pub fn maps(&self) -> Vec<u64> {
        // SAFETY: as many words, which live for ever; only this instance writes them, and no hit is running.
        unsafe { std::slice::from_raw_parts(self.shard, self.words) }.to_vec()
    }

    /// One hit with these first two arguments: how it ended and the fuel it used.
    pub fn hit(&mut self, arguments: [u64; 2]) -> (Outcome, u64) {
        let [rdi, rsi] = arguments;
        self.hit_at(HitFrame { rdi, rsi, ..NO_REGISTERS }, 0)
    }

    /// One hit with these registers at this site.
    pub fn hit_at(&mut self, mut frame: HitFrame, site: u32) -> (Outcome, u64) {
        let hit = Hit { frame: NonNull::from(&mut frame), site, tid: 1 };
        let outcome = self.instance.hit(0, hit);
        (outcome, PLENTY - self.instance.fuel_left())
    }
}
