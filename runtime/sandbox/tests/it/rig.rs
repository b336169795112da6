//! An instance over memory of the test: the maps' shard and the ring lie in buffers, the target is made up.
//!
//! Buffers live as long as the test process: the sandbox asks for `'static`, and a test is short. Values come out of
//! a probe as the payload of a record, because that is the only way out that a probe has.
//!
//! Every instance is parked, and hits take turns: one in the parked activation, one there without wasmtime's entry trampoline,
//! as the agent's usual hit, one by wasmtime's own entry. So each test is a test of all, and of either after another. Several instances on one thread are used in the reverse of
//! the order in which they were made, since a thread has one slot for wasmtime here; in the agent a context has.
#![expect(unsafe_code, reason = "shards and ring are raw memory to the sandbox")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::AtomicI64;
use std::sync::{LazyLock, Mutex};

use trocar_abi::hit::HitFrame;
use trocar_abi::import::errno::EFAULT;
use trocar_abi::import::{IMPORTS, Ty};
use trocar_abi::map::{MapKind, MapSpec};
use trocar_abi::operand::Operand;
use trocar_abi::record::RecordHead;
use trocar_abi::shared::TrapCode;
use trocar_ring::{Consumer, Producer, SharedView};
use trocar_sandbox::{Arguments, Env, Hit, Instance, Loaded, Maps, Outcome, Rate, Target, configure};
use wasmtime::{Config, Engine, Module};

use crate::direct;

/// Bytes of a page of linear memory.
pub const WASM_PAGE: usize = 65_536;
/// Fuel that no test uses up unless it wants to.
pub const PLENTY: u64 = 1 << 40;
/// Address of the site.
pub const SITE_ADDRESS: u64 = 0x40_1000;
/// Stack pointer at the site.
pub const STACK_POINTER: u64 = 0x7fff_0000_1238;
/// Index of the site.
pub const SITE: u32 = 7;
/// The thread.
pub const THREAD: u32 = 4242;
/// What the clock of the made-up target says.
pub const CLOCK: u64 = 1_234_567_890_123;
/// What its wall clock says.
pub const REAL_CLOCK: u64 = 1_700_000_000_000_000_123;
/// The function of the made-up site.
pub const FUNCTION: u32 = 5;
/// The processor of the made-up target.
pub const PROCESSOR: u32 = 3;

/// The engine, made once.
pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    configure(&mut config);
    Engine::new(&config).unwrap()
});

/// The made-up target: a few pieces of memory, and a list of the reads it was asked for.
#[derive(Debug, Default)]
pub struct Fake {
    /// Pieces of memory by address.
    pub memory: Vec<(u64, Vec<u8>)>,
    /// The answer to every read, instead of bytes.
    pub refuse: Option<i32>,
    /// Arguments of the site, if it is a marker.
    pub operands: Option<Vec<Operand>>,
    /// Address and length of each read.
    pub reads: Mutex<Vec<(u64, usize)>>,
}

impl Target for Fake {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), i32> {
        self.reads.lock().unwrap().push((address, to.len()));
        if let Some(code) = self.refuse {
            return Err(code);
        }
        for (start, bytes) in &self.memory {
            let Some(at) = address.checked_sub(*start).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            if let Some(from) = at.checked_add(to.len()).and_then(|end| bytes.get(at..end)) {
                to.copy_from_slice(from);
                return Ok(());
            }
        }
        Err(EFAULT)
    }

    fn time_ns(&self) -> u64 {
        CLOCK
    }

    fn real_time_ns(&self) -> u64 {
        REAL_CLOCK
    }

    fn cpu(&self) -> u32 {
        PROCESSOR
    }

    fn function(&self, site: u32) -> u32 {
        assert_eq!(site, SITE);
        FUNCTION
    }

    fn place(&self, _: &HitFrame, site: u32) -> (u64, u64) {
        assert_eq!(site, SITE);
        (STACK_POINTER, SITE_ADDRESS)
    }

    fn operand(&self, site: u32, n: u32) -> Option<Operand> {
        assert_eq!(site, SITE);
        let operands = self.operands.as_ref()?;
        Some(operands.get(n as usize).copied().unwrap_or_default())
    }
}

/// What a test sets before its instance is made.
pub struct Setup {
    /// Each map: kind, entries, bytes of a key.
    pub maps: Vec<(MapKind, u32, u32)>,
    /// Bytes of the ring.
    pub ring: usize,
    pub params: Vec<u64>,
    pub strings: Vec<u8>,
    pub go_arguments: bool,
    /// Records that may be written, taken ten at once; `None`: no limit.
    pub records: Option<&'static AtomicI64>,
    pub target: Fake,
    pub handlers: Vec<&'static str>,
    pub fuel: u64,
    pub start_fuel: u64,
    pub memory_max: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            maps: Vec::new(),
            ring: 16_384,
            params: Vec::new(),
            strings: Vec::new(),
            go_arguments: false,
            records: None,
            target: Fake::default(),
            handlers: vec!["on_hit"],
            fuel: PLENTY,
            start_fuel: PLENTY,
            memory_max: 17 * WASM_PAGE,
        }
    }
}

/// An instance, and the other end of everything that it writes.
pub struct Rig {
    pub instance: Box<Instance>,
    /// The way that the last hit took, of three.
    way: u32,
    /// Where `after_trap` leaves the reason.
    trapped: Box<Option<TrapCode>>,
    pub target: &'static Fake,
    pub frame: Box<HitFrame>,
    module: Module,
    consumer: Consumer,
    shard: SharedView,
    specs: &'static [MapSpec],
}

/// Every host call as an import, named as it is.
fn imports() -> String {
    let name = |ty: &Ty| if *ty == Ty::I32 { "i32" } else { "i64" };
    let import = |i: &trocar_abi::import::Import| {
        let params: Vec<&str> = i.params.iter().map(name).collect();
        let result = i.result.as_ref().map_or(String::new(), |ty| format!("(result {})", name(ty)));
        format!(r#"(import "trocar" "{0}" (func ${0} (param {1}) {result}))"#, i.name, params.join(" "))
    };
    IMPORTS.iter().map(import).collect()
}

/// A module that imports every host call and has one page of memory, from the rest of its text.
pub fn module(rest: &str) -> String {
    format!(r#"(module {} (memory (export "memory") 1) {rest})"#, imports())
}

/// A module whose `on_hit` is this code.
pub fn on_hit(code: &str) -> String {
    module(&format!(r#"(func (export "on_hit") {code})"#))
}

/// A module whose `on_hit` writes the value of an i64 expression as an event of eight bytes.
pub fn tell(expression: &str) -> String {
    on_hit(&tell_code(expression))
}

/// The code that does so.
pub fn tell_code(expression: &str) -> String {
    format!("(i64.store (i32.const 64) {expression}) (call $emit (i32.const 0) (i32.const 64) (i32.const 8))")
}

fn words(bytes: usize) -> &'static mut [u64] {
    vec![0u64; bytes / 8].leak()
}

impl Setup {
    /// Makes an instance of a module.
    pub fn try_start(self, wat: &str) -> wasmtime::Result<Rig> {
        let wasm = wat::parse_str(wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
        let module = Module::new(&ENGINE, wasm)?;
        let mut end = 0;
        let mut specs = Vec::new();
        for (kind, entries, key_bytes) in self.maps {
            let spec = MapSpec { kind: kind as u32, entries, key_bytes, offset: end };
            end += u32::try_from(spec.shard_bytes()).unwrap();
            specs.push(spec);
        }
        let specs: &'static [MapSpec] = specs.leak();
        let shard = words(end as usize);
        let (base, shard_len) = (shard.as_mut_ptr().cast::<u8>(), shard.len() * 8);
        // SAFETY: `shard` lives for ever and is only reached through this view and the maps.
        let shard = unsafe { SharedView::new(base, shard_len) };
        // SAFETY: INVARIANT (shards): each spec lies in the buffer just made, which only this instance writes.
        let maps = unsafe { Maps::new(base, specs) };

        // Head, tail, then the ring.
        let shared = words(64 + self.ring);
        let (base, shared_len) = (shared.as_mut_ptr(), shared.len() * 8);
        // SAFETY: head, tail and data are distinct words of a buffer that lives for ever, and all are reached through
        // atomics alone.
        let ring = unsafe {
            Producer::new(base, base.wrapping_add(1), base.wrapping_add(8).cast(), self.ring as u64)
        };
        // SAFETY: as above.
        let view = unsafe { SharedView::new(base.cast(), shared_len) };
        let consumer = Consumer::new(view, 0, 8, 64, self.ring as u64).unwrap();

        let env = Env {
            maps,
            ring: ring.unwrap(),
            params: self.params.leak(),
            strings: self.strings.leak(),
            arguments: Arguments::of(self.go_arguments, self.target.operands.is_some()),
            // SAFETY: null, or a word that lives for ever and is only accessed atomically.
            rate: unsafe { Rate::new(self.records.map_or(std::ptr::null_mut(), AtomicI64::as_ptr), 10) },
            seed: 1,
        };
        let target: &'static Fake = Box::leak(Box::new(self.target));
        let loaded = Loaded::new(&ENGINE, &module, &self.handlers)?;
        let instance = Instance::new(&loaded, env, target, self.fuel, self.start_fuel, self.memory_max)?;
        let (mut instance, mut trapped) = (Box::new(instance), Box::new(None));
        let reason: *mut Option<TrapCode> = &raw mut *trapped;
        let stack = words(64 << 10).as_mut_ptr_range().end;
        // SAFETY: the instance stays in its box; the stack lives for ever and nobody else uses it; `after_trap` is given
        // the box of the reason, which lives as long as the instance.
        let lowest = unsafe { Instance::park(&raw mut *instance, stack.addr(), after_trap, reason.cast()) };
        if let Some(lowest) = lowest {
            let used = stack.addr() - lowest;
            assert!(used < 2048, "{used} bytes are parked");
        }
        let frame = Box::new(frame());
        Ok(Rig { instance, way: 2, trapped, target, frame, module, consumer, shard, specs })
    }

    /// The same for a module that is known to be right.
    pub fn start(self, wat: &str) -> Rig {
        self.try_start(wat).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// The reason why there is no instance.
    pub fn refused(self, wat: &str) -> wasmtime::Error {
        self.try_start(wat).map(|rig| rig.instance).expect_err("an instance was made")
    }
}

/// What the parked activation says.
///
/// # Safety
/// `reason` is a rig's.
unsafe extern "C" fn after_trap(reason: *mut c_void, code: TrapCode) {
    // SAFETY: the caller's contract.
    unsafe { reason.cast::<Option<TrapCode>>().write(Some(code)) };
}

impl Rig {
    /// An instance with the usual setup.
    pub fn of(wat: &str) -> Self {
        Setup::default().start(wat)
    }

    /// One hit in the first handler.
    pub fn hit(&mut self) -> Outcome {
        self.hit_handler(0)
    }

    /// One hit in a handler.
    pub fn hit_handler(&mut self, handler: u32) -> Outcome {
        let hit = Hit { frame: NonNull::from(&mut *self.frame), site: SITE, tid: THREAD };
        self.way = (self.way + 1) % 3;
        let ended = match self.way {
            2 => return self.instance.hit(handler, hit),
            // SAFETY: it is parked, or has no handler, and the slot is this thread's; a trap is settled at once.
            1 => unsafe { direct::hit(&mut self.instance, handler, hit) },
            // SAFETY: as above.
            _ => unsafe { self.instance.hit_parked(handler, || hit) },
        };
        if let Some((outcome, used)) = ended {
            assert!(matches!(outcome, Outcome::Trapped(_)) || used == self.instance.fuel_used());
            return outcome;
        }
        // SAFETY: just trapped; this thread's stack is not the parked one.
        unsafe { Instance::settle(&raw mut *self.instance) };
        Outcome::Trapped(self.trapped.take().expect("settling says why"))
    }

    /// The records since the last look.
    pub fn records(&mut self) -> Vec<(RecordHead, Vec<u8>)> {
        let mut all = Vec::new();
        self.consumer.drain(usize::MAX, |head, payload| all.push((head, payload.to_vec()))).unwrap();
        all
    }

    /// The payload of the one record since the last look.
    pub fn payload(&mut self) -> Vec<u8> {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0).1
    }

    /// One hit of a probe made by [`tell`], and what it told.
    pub fn told(&mut self) -> u64 {
        assert_eq!(self.hit(), Outcome::Executed);
        u64::from_le_bytes(self.payload().try_into().unwrap())
    }

    /// Checks that a hit traps with this code.
    pub fn traps(&mut self, code: TrapCode) {
        assert_eq!(self.hit(), Outcome::Trapped(code));
    }

    /// Names of the functions in which the last trap was, innermost first.
    pub fn trapped_in(&self) -> Vec<String> {
        let function = |address: u32| {
            let at = address as usize - 1; // inside the call that it returns to
            self.module.functions().find(|f| f.offset <= at && at < f.offset + f.len)
        };
        self.instance.trapped_at().filter_map(function).filter_map(|f| f.name).collect()
    }

    /// Word `index` of a map's shard.
    pub fn word(&self, map: usize, index: u64) -> u64 {
        self.shard.load_u64(u64::from(self.specs[map].offset) + index * 8).unwrap()
    }

    /// The rows of a hash map's shard.
    pub fn rows(&self, map: usize) -> Vec<(Vec<u8>, u64)> {
        let spec = &self.specs[map];
        let stride = MapSpec::hash_stride(spec.key_bytes);
        let mut rows = Vec::new();
        for slot in 0..u64::from(spec.entries) {
            let at = u64::from(spec.offset) + 16 + slot * stride;
            if self.shard.load_u64(at).unwrap() != 0 {
                let mut key = vec![0; usize::try_from(self.shard.load_u64(at + 16).unwrap()).unwrap()];
                self.shard.copy_out(at + 24, &mut key).unwrap();
                rows.push((key, self.shard.load_u64(at + 8).unwrap()));
            }
        }
        rows.sort();
        rows
    }
}

/// Registers that all differ.
pub fn frame() -> HitFrame {
    HitFrame {
        xmm: [[0; 2]; 16],
        mxcsr: 0,
        site: u64::from(SITE),
        rbx: 0x103,
        r15: 0x10f,
        r14: 0x10e,
        r13: 0x10d,
        r12: 0x10c,
        r11: 0x10b,
        r10: 0x10a,
        r9: 0x109,
        r8: 0x108,
        rdi: 0x105,
        rsi: 0x104,
        rdx: 0x101,
        rax: 0xffff_ffff_ffff_0100,
        rflags: 0x202,
        rbp: 0x106,
        trampoline: 0xdead,
        rcx: 0x102,
    }
}
