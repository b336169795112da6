//! The rehearsal: the code that a target would get, one instance, hits one after another.

use std::cell::OnceCell;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use trocar_abi::map::MapSpec;
use trocar_collect::{Collector, Decoded, NamedRow, decode, named_rows};
use trocar_compile::{CodeMap, CompileError, Compiled, Spot, precompile};
use trocar_package::{Manifest, ParamValue};
use trocar_sandbox::{Arguments, Env, Hit, Instance, Loaded, Outcome, Rate, START_FUEL};
use wasmtime::{Config, Engine, Linker, Module};

use crate::code;
use crate::hit::{HitError, RecordedHit, RecordedMemory};
use crate::memory;
use crate::replay::{Live, Replay};
use crate::wasi;

/// Seed of random numbers: a hit is rehearsed the same each time.
const SEED: u64 = 0x7472_6f63_6172_0001;
/// Hits of a batch when the price is measured; their records fit the ring.
const BATCH: u32 = 48;
/// Time that measuring the price takes.
const PRICE_TIME: Duration = Duration::from_millis(60);

/// A probe to be rehearsed.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// The module.
    pub wasm: &'a [u8],
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Values of its parameters.
    pub params: &'a [ParamValue],
    /// Fuel for each hit.
    pub fuel: u64,
    /// Most bytes of linear memory.
    pub memory_bytes: u64,
}

/// Why a probe cannot be rehearsed.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It cannot be linked or started.
    #[error("{0}")]
    Start(String),
}

/// What one hit did.
#[derive(Debug)]
pub struct HitResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel that it used.
    pub fuel: u64,
    /// Reads of the target's memory: each would be a system call.
    pub reads: u64,
    /// If it trapped: return addresses in its code, innermost first, for [`Rehearsal::spots`].
    pub trapped_at: Vec<u32>,
    /// What it wrote, in order.
    pub records: Vec<Decoded>,
}

/// A map with its rows.
#[derive(Debug)]
pub struct MapResult {
    /// Its name.
    pub name: String,
    /// counter, hist or hash.
    pub map_type: &'static str,
    /// Its rows.
    pub rows: Vec<NamedRow>,
    /// Updates that found no slot.
    pub dropped: u64,
}

/// A probe at work, outside any target.
#[derive(Debug)]
pub struct Rehearsal {
    instance: Instance,
    collector: Collector,
    replay: &'static Replay,
    manifest: Manifest,
    fuel: u64,
    wasm: Vec<u8>,
    code: Compiled,
    /// Made when the first trap is asked for.
    map: OnceCell<Option<CodeMap>>,
}

impl Rehearsal {
    /// Compiles and instantiates a probe; its start function runs. What it allocates stays until the process ends.
    ///
    /// # Errors
    /// It cannot be compiled or linked, its memory is over the limit, a handler is missing, its start function traps.
    pub fn new(probe: &Probe<'_>) -> Result<Self, RehearseError> {
        Self::made(probe, Loaded::new)
    }

    /// The same with the whole of WASI in place of what a target has of it: for a probe that is still being written.
    ///
    /// # Errors
    /// As [`Rehearsal::new`].
    pub fn with_wasi(probe: &Probe<'_>) -> Result<Self, RehearseError> {
        Self::made(probe, |engine, module, names| {
            let mut linker = Linker::new(engine);
            trocar_sandbox::link(&mut linker)?;
            wasi::link(&mut linker)?;
            Ok(Loaded::with_linker(&linker, module, names)?.extended(wasi::make))
        })
    }

    fn made(
        probe: &Probe<'_>,
        load: impl FnOnce(&Engine, &Module, &[&str]) -> wasmtime::Result<Loaded>,
    ) -> Result<Self, RehearseError> {
        let failed = |e: wasmtime::Error| RehearseError::Start(format!("{e:#}").replace('\n', ": "));
        let mut config = Config::new();
        trocar_sandbox::configure(&mut config);
        let engine = Engine::new(&config).map_err(failed)?;
        let code = precompile(probe.wasm)?;
        let module = code::load(&engine, &code).map_err(failed)?;
        let names: Vec<&str> = probe.manifest.handlers.iter().map(|h| h.name.as_str()).collect();
        let loaded = load(&engine, &module, &names).map_err(failed)?;

        let (specs, maps_bytes) = probe.manifest.map_specs();
        let specs: &'static [MapSpec] = Box::leak(specs.into_boxed_slice());
        let shared = memory::make(specs, maps_bytes)
            .ok_or_else(|| RehearseError::Start("its maps are too large".into()))?;
        let collector = Collector::new(shared.view, shared.layout, specs.to_vec(), 1.0)
            .map_err(|e| RehearseError::Start(e.to_string()))?;
        let (params, strings) = pack(probe.params);
        let env = Env {
            maps: shared.maps,
            ring: shared.ring,
            params: Box::leak(params.into_boxed_slice()),
            strings: Box::leak(strings.into_boxed_slice()),
            arguments: Arguments::SystemV,
            rate: Rate::unlimited(),
            seed: SEED,
        };
        let replay: &'static Replay = Box::leak(Box::default());
        // Go's runtime does not start where the clock says zero.
        replay.set(
            Vec::new(),
            None,
            (0, 0),
            &RecordedHit { time_ns: 1_000_000_000, ..RecordedHit::default() },
        );
        let memory_max = usize::try_from(probe.memory_bytes).unwrap_or(usize::MAX);
        let instance =
            Instance::new(&loaded, env, replay, probe.fuel, START_FUEL, memory_max).map_err(failed)?;
        let (manifest, wasm, fuel) = (probe.manifest.clone(), probe.wasm.to_vec(), probe.fuel);
        Ok(Self { instance, collector, replay, manifest, fuel, wasm, code, map: OnceCell::new() })
    }

    /// Runs one hit. A handler that the manifest does not have is the first one's place: check its name before.
    ///
    /// # Errors
    /// The hit is not as it should be.
    pub fn hit(&mut self, hit: &RecordedHit) -> Result<HitResult, HitError> {
        self.finish(hit, None)
    }

    /// Runs one hit that came a moment ago in a process whose memory `live` reads; what the hit has of it itself is taken
    /// from there. The hit with the memory that was read, so that it can be repeated without the process.
    ///
    /// # Errors
    /// The hit is not as it should be.
    pub fn hit_live(&mut self, hit: &RecordedHit, live: Live) -> Result<(HitResult, RecordedHit), HitError> {
        let result = self.finish(hit, Some(live))?;
        let memory = self.replay.kept().iter().map(|(at, bytes)| RecordedMemory::new(*at, bytes)).collect();
        Ok((result, RecordedHit { memory, ..hit.clone() }))
    }

    fn finish(&mut self, hit: &RecordedHit, live: Option<Live>) -> Result<HitResult, HitError> {
        let outcome = self.run(hit, live)?;
        let fuel = self.fuel.saturating_sub(self.instance.fuel_left());
        let (mut records, manifest) = (Vec::new(), &self.manifest);
        self.collector.records(|record| records.push(decode(manifest, &record.head, record.payload)));
        let trapped = matches!(outcome, Outcome::Trapped(_));
        let trapped_at = if trapped { self.instance.trapped_at().collect() } else { Vec::new() };
        Ok(HitResult { outcome, fuel, reads: self.replay.reads(), records, trapped_at })
    }

    /// The functions to which addresses belong that a hit trapped at.
    #[must_use]
    pub fn spots(&self, addresses: &[u32]) -> Vec<Spot> {
        let map = self.map.get_or_init(|| CodeMap::of(&self.wasm, self.code.code()).ok());
        addresses.iter().filter_map(|address| map.as_ref()?.caller(*address)).collect()
    }

    fn run(&mut self, hit: &RecordedHit, live: Option<Live>) -> Result<Outcome, HitError> {
        let ready = hit.ready()?;
        self.replay.set(ready.memory, live, (ready.rsp, ready.rip), hit);
        self.instance.set_span(hit.site, hit.span_ns.unwrap_or(-1));
        self.instance.set_go_arguments(hit.go);
        let frame = NonNull::from(&ready.frame);
        let handler = self.handler(hit);
        let hit = Hit { frame, site: hit.site, tid: hit.tid };
        // `ready` outlives the call, and with it the frame.
        Ok(self.instance.hit(handler, hit))
    }

    fn handler(&self, hit: &RecordedHit) -> u32 {
        let named = |name: &String| self.manifest.handlers.iter().position(|h| h.name == *name);
        hit.handler.as_ref().and_then(named).and_then(|i| u32::try_from(i).ok()).unwrap_or(0)
    }

    /// Handlers of the probe.
    pub fn handlers(&self) -> impl Iterator<Item = &str> {
        self.manifest.handlers.iter().map(|h| h.name.as_str())
    }

    /// The maps as they are now.
    #[must_use]
    pub fn maps(&self) -> Vec<MapResult> {
        let row = |(index, map): (usize, &trocar_package::Map)| {
            let merged = self.collector.map(index)?;
            let dropped =
                if let trocar_collect::MergedMap::Hash { dropped, .. } = &merged { *dropped } else { 0 };
            let (name, map_type) = (map.name.clone(), map.kind.kind().name());
            Some(MapResult { name, map_type, rows: named_rows(map, &merged), dropped })
        };
        self.manifest.maps.iter().enumerate().filter_map(row).collect()
    }

    /// What such a hit costs here in nanoseconds, at best, without trampoline and system calls; `None` if it traps.
    ///
    /// # Errors
    /// The hit is not as it should be.
    pub fn price(&mut self, hit: &RecordedHit) -> Result<Option<f64>, HitError> {
        let ready = hit.ready()?;
        let frame = NonNull::from(&ready.frame);
        self.replay.set(ready.memory, None, (ready.rsp, ready.rip), hit);
        self.instance.set_span(hit.site, hit.span_ns.unwrap_or(-1));
        let handler = self.handler(hit);
        let hit = Hit { frame, site: hit.site, tid: hit.tid };
        let (until, mut best) = (Instant::now() + PRICE_TIME, f64::INFINITY);
        while Instant::now() < until {
            let began = Instant::now();
            for _ in 0..BATCH {
                if let Outcome::Trapped(_) = self.instance.hit(handler, hit) {
                    return Ok(None);
                }
            }
            best = best.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
            self.collector.records(|_| {});
        }
        Ok(Some(best))
    }
}

/// Parameters as the sandbox takes them: integers, or offset and length of a text.
fn pack(values: &[ParamValue]) -> (Vec<u64>, Vec<u8>) {
    let mut strings = Vec::new();
    let words = values.iter().map(|value| match value {
        ParamValue::Int(n) => n.cast_unsigned(),
        ParamValue::Str(text) => {
            let at = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            at << 32 | text.len() as u64
        }
    });
    (words.collect(), strings)
}
