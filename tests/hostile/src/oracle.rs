//! Bytes from outside go in: nothing panics, and what comes out keeps what its module promises.

use trocar_abi::map::{MapKind, MapSpec};
use trocar_abi::record::PAYLOAD_MAX;
use trocar_abi::shared::Layout;
use trocar_collect::{Collector, decode, named_rows};
use trocar_compile::{Reason, Verified};
use trocar_package::{Manifest, ManifestError};
use trocar_rehearse::{Outcome, Probe, RecordedHit, Rehearsal, Word};
use trocar_symbols::{Elf, LoadedModule, Point, Resolver};

use crate::memory::Scribbled;

/// Fuel of a hit that an oracle runs, as in a target.
const FUEL: u64 = 10_000;

/// A message that is shown to people.
fn assert_shown(message: &str) {
    assert!(!message.is_empty() && !message.contains(|c: char| c.is_control() && c != '\n'), "{message:?}");
}

/// The gate: a module is accepted, with handlers, or refused, with a reason that can be shown.
#[must_use]
pub fn verify(bytes: &[u8]) -> Option<Verified> {
    match trocar_compile::verify(bytes) {
        Ok(verified) => {
            assert!(!verified.handlers.is_empty() && !verified.report().is_empty());
            Some(verified)
        }
        Err(error) => {
            assert_shown(&error.message);
            error.hint.as_deref().into_iter().for_each(assert_shown);
            None
        }
    }
}

/// A module that the gate accepts is compiled and hit, as in a target, with arguments that lead nowhere: no more fuel than
/// it has is used, and no more than the gate says is possible. How the hits ended; nothing for what is refused.
pub fn run(bytes: &[u8]) -> Vec<Outcome> {
    let Some(verified) = verify(bytes) else { return Vec::new() };
    let Ok(params) = verified.manifest.resolve_params(&[]) else { return Vec::new() };
    let probe = Probe {
        wasm: bytes,
        manifest: &verified.manifest,
        params: &params,
        fuel: FUEL,
        memory_bytes: verified.memory_limit,
    };
    let mut rehearsal = match Rehearsal::new(&probe) {
        Ok(rehearsal) => rehearsal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Vec::new();
        }
    };
    let extremes = [0, 1, u64::MAX, 1 << 63, 0x7fff_ffff_f000, 0xffff_ffff_8100_0000];
    let hit = |value: u64| RecordedHit { args: vec![Word(value); 6], tid: 7, ..RecordedHit::default() };
    let mut outcomes = Vec::new();
    for value in extremes {
        let result = rehearsal.hit(&hit(value)).unwrap();
        let trapped = matches!(result.outcome, Outcome::Trapped(_));
        if let Some(bound) = verified.worst_fuel.filter(|bound| !trapped && *bound <= FUEL) {
            assert!(result.fuel <= bound, "a hit used {} fuel; the gate says at most {bound}", result.fuel);
        }
        if let Some(bound) = verified.system_calls_per_hit {
            assert!(result.reads <= bound.into(), "a hit made {} calls; at most {bound}", result.reads);
        }
        outcomes.push(result.outcome);
    }
    for map in rehearsal.maps() {
        assert!(map.rows.len() <= trocar_collect::ROWS_MAX);
    }
    outcomes
}

/// What the manifest of [`shared`] declares.
const SCHEMAS: &str = r#"abi = 1
name = "p"
maps = [{ name = "c", kind = "counter", entries = 8 }, { name = "h", kind = "hist", entries = 2 },
        { name = "t", kind = "hash", entries = 16, key = [{ name = "k", type = "str", bytes = 8 }, { name = "f", type = "f64" }] }]
events = [{ name = "e", fields = [{ name = "a", type = "u64" }, { name = "b", type = "str", bytes = 5 }] }]
"#;

/// A session's shared memory that holds these bytes, read as the host reads it, and again with other bytes in it: every
/// record is within its bounds, every ring that is broken is told once.
pub fn shared(bytes: &[u8]) {
    let manifest = Manifest::from_toml(SCHEMAS).unwrap();
    let (specs, maps): (Vec<MapSpec>, u64) = manifest.map_specs();
    assert_eq!(specs.get(2).map(|s| s.kind), Some(MapKind::Hash as u32));
    let layout = Layout { sites: 3, contexts: 3, maps, ring: 1024 };
    let mut memory = Scribbled::new(layout, bytes);
    let mut collector = Collector::new(memory.view, layout, specs, 2.5).unwrap();
    let mut faults = 0;
    for round in 0..3u64 {
        let mut records = 0;
        let drained = collector.records(|record| {
            records += 1;
            assert!(record.payload.len() <= PAYLOAD_MAX as usize);
            drop(decode(&manifest, &record.head, record.payload));
        });
        // A record has a head of sixteen bytes, and a ring a thousand.
        assert!(drained.records == records && records <= 3 * 1024 / 16, "{records} records in three rings");
        faults += drained.faults.len();
        for (index, map) in manifest.maps.iter().enumerate() {
            drop(named_rows(map, &collector.map(index).unwrap()));
        }
        for site in collector.totals() {
            assert_eq!(site.settled().hits, site.accounted());
            let _ = (collector.ns_per_hit(&site), collector.ns_min(&site));
        }
        let _ = (collector.status(), collector.contexts());
        // The target goes on writing: rings that were whole break, and rings that are broken stay so.
        memory.scribble(layout.context(0) + round * 72, bytes);
    }
    assert!(faults <= 3, "{faults} faults of three rings");
}

fn judge(found: Result<Manifest, ManifestError>) {
    match found {
        Ok(manifest) => {
            manifest.check().unwrap();
            let again = Manifest::from_module(&with_section(manifest.to_section_json().as_bytes()));
            assert_eq!(
                again.unwrap().as_ref(),
                Some(&manifest),
                "a manifest is what it was, written and read"
            );
            let (specs, bytes) = manifest.map_specs();
            assert!(specs.iter().all(|s| u64::from(s.offset) + s.shard_bytes() <= bytes));
        }
        Err(error) => assert_shown(&error.to_string()),
    }
}

/// The manifest in a module's section, and as a `probe.toml`: read and written it is the same, or an error says why not.
pub fn manifest(bytes: &[u8]) {
    if let Some(manifest) = Manifest::from_module(&with_section(bytes)).transpose() {
        judge(manifest);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        judge(Manifest::from_toml(text));
    }
}

/// A module of one section, the manifest's.
fn with_section(content: &[u8]) -> Vec<u8> {
    let name = b"trocar.manifest";
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    let mut rest = name.len() + 1 + content.len();
    while rest >= 0x80 {
        module.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    module.push(u8::try_from(rest).unwrap());
    module.push(u8::try_from(name.len()).unwrap());
    module.extend_from_slice(name);
    module.extend_from_slice(content);
    module
}

/// An ELF file: everything that can be asked of it. Whether it could be read at all.
pub fn elf(bytes: &[u8]) -> bool {
    let Ok(elf) = Elf::parse(bytes.to_vec()) else { return false };
    let image = elf.code_image();
    let inside = |address: &u64| image.functions.iter().any(|(start, end)| (*start..=*end).contains(address));
    for (start, _) in image.functions.iter().take(20) {
        assert!(inside(start));
        let _ = elf.symbolize(*start);
    }
    let _ = (elf.soname(), elf.is_stripped(), elf.build_id(), elf.is_go(), elf.entry(), elf.segments().len());
    let module = LoadedModule {
        name: "m".into(),
        path: "/m".into(),
        aliases: Vec::new(),
        elf: std::sync::Arc::new(elf),
        bias: 0x1000,
    };
    let resolver = Resolver::new(vec![module]);
    for point in ["main", "m:*", "return:main", "m:0x1040", "0x2040", "main+0x4"] {
        if let Err(error) = resolver.resolve(&Point::parse(point).unwrap()) {
            assert_shown(&error.to_string());
        }
    }
    let _ = resolver.symbolize(0x2040);
    true
}

/// An expression, as key, condition and log line: what is accepted becomes a probe that the gate accepts and whose hits stay
/// within its bound; what is not is refused at a place inside the text. How many probes came of it.
pub fn expression(bytes: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let refused = |error: trocar_expr::ExprError| {
        assert!(error.span.start <= error.text.len() && error.text.is_char_boundary(error.span.start));
        assert!(!error.message.is_empty() && !error.caret().is_empty());
    };
    let expression = trocar_expr::parse(text).map_err(refused).ok();
    let template = trocar_expr::parse_template(text).map_err(refused).ok();
    let count = expression.as_ref().map(|e| trocar_expr::compile_count(Some(e), None));
    let condition = expression.as_ref().map(|e| trocar_expr::compile_count(None, Some(e)));
    let log = template.as_ref().map(|t| trocar_expr::compile_log(t, None));
    let compiled = [count, condition, log].into_iter().flatten().filter_map(|c| c.map_err(refused).ok());
    let mut probes = 0;
    for probe in compiled {
        let gate = trocar_compile::verify(&probe.wasm);
        let too_large = matches!(&gate, Err(e) if e.reason == Reason::TooLarge);
        assert!(gate.is_ok() || too_large, "{text:?}: {:?}", gate.err());
        probes += 1;
    }
    probes
}
