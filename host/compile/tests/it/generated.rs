//! The probes that `count` and `log` generate go through the same gate as any other.

use trocar_abi::import::Capability;
use trocar_compile::verify;
use trocar_expr::{compile_count, compile_log, parse, parse_template};

#[test]
fn generated_counters_are_bounded_and_within_the_fuel_they_ask_for() {
    for (by, condition, calls) in [
        (None, None, 0),
        (Some("$arg0"), Some("$arg1 / $arg2 > 3"), 0),
        (Some("str($arg1)"), Some("*(u32*)($arg0 + 16) == 'a'"), 3),
        (Some("*(u8*)*(u64*)*(u64*)*(u64*)*(u64*)$arg0"), Some("buf($reg.rsp, 8) == \"abcdefgh\""), 6),
    ] {
        let parse = |text: &str| parse(text).unwrap();
        let probe = compile_count(by.map(parse).as_ref(), condition.map(parse).as_ref()).unwrap();
        let v = verify(&probe.wasm).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((&v.manifest, v.has_manifest), (&probe.manifest, true));
        assert_eq!((v.memory.min, v.memory.max), (1, Some(1)));
        assert!(v.handlers[0].returns_condition && !v.uses_floats && v.notes.is_empty());
        assert_eq!(v.system_calls_per_hit, Some(calls), "{by:?} {condition:?}");
        assert!(
            v.worst_fuel.unwrap() <= probe.manifest.limits.fuel.unwrap_or(10_000),
            "{by:?} {condition:?}"
        );
    }
}

#[test]
fn a_counter_without_expressions_has_one_capability() {
    let v = verify(&compile_count(None, None).unwrap().wasm).unwrap();
    assert_eq!(v.capabilities, [Capability::Maps]);
}

#[test]
fn generated_log_lines_pass_with_their_loops() {
    let template = parse_template("x={$arg0} {$arg1:x} {buf($arg2, 8)} {str($arg3)}").unwrap();
    let v = verify(&compile_log(&template, None).unwrap().wasm).unwrap();
    assert_eq!(v.capabilities, [Capability::Log, Capability::Registers, Capability::Memory]);
    assert_eq!(v.worst_fuel, None, "digits are made in a loop");
}
