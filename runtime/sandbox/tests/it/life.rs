//! An instance's life: what runs once before the first hit, which handlers it may have, what it may weigh.

use trocar_abi::map::MapKind;
use trocar_sandbox::Outcome;
use wasmtime::Trap;

use crate::rig::{Setup, WASM_PAGE, module, on_hit, tell_code};

const COUNT_START: &str = "(call $counter_add (i32.const 0) (i32.const 0) (i64.const 1))";
const COUNT_INITIALIZE: &str = "(call $counter_add (i32.const 0) (i32.const 1) (i64.const 1))";
const COUNT_HIT: &str = "(call $counter_add (i32.const 0) (i32.const 2) (i64.const 1))";
/// A loop of 1000 rounds: some thousands of fuel.
const WORK: &str = "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))";

fn counting() -> Setup {
    Setup { maps: vec![(MapKind::Counter, 3, 0)], ..Setup::default() }
}

#[test]
fn start_and_initialize_run_once_and_in_this_order() {
    let mut rig = counting().start(&module(&format!(
        r#"(global $order (mut i64) (i64.const 0))
           (func $start {COUNT_START} (global.set $order (i64.add (i64.mul (global.get $order) (i64.const 10)) (i64.const 1))))
           (start $start)
           (func (export "_initialize") {COUNT_INITIALIZE}
             (global.set $order (i64.add (i64.mul (global.get $order) (i64.const 10)) (i64.const 2))))
           (func (export "on_hit") {COUNT_HIT} {})"#,
        tell_code("(global.get $order)")
    )));
    assert_eq!([0, 1, 2].map(|i| rig.word(0, i)), [1, 1, 0], "before any hit");
    assert_eq!([rig.told(), rig.told(), rig.told()], [12, 12, 12]);
    assert_eq!([0, 1, 2].map(|i| rig.word(0, i)), [1, 1, 3]);
}

#[test]
fn constructors_run_once_by_themselves_and_not_beside_initialize() {
    let ctors = format!(r#"(func $ctors (export "__wasm_call_ctors") {COUNT_START})"#);
    let hit = format!(r#"(func (export "on_hit") {COUNT_HIT})"#);
    let reactor = format!(r#"(func (export "_initialize") {COUNT_INITIALIZE} (call $ctors))"#);
    for (text, want) in
        [(format!("{ctors} {hit}"), [1, 0, 2]), (format!("{ctors} {reactor} {hit}"), [1, 1, 2])]
    {
        let mut rig = counting().start(&module(&text));
        assert_eq!([rig.hit(), rig.hit()], [Outcome::Executed; 2]);
        assert_eq!([0, 1, 2].map(|i| rig.word(0, i)), want, "{text}");
    }
}

#[test]
fn what_runs_once_has_a_budget_of_its_own() {
    for once in [format!("(func $s {WORK}) (start $s)"), format!(r#"(func (export "_initialize") {WORK})"#)] {
        let wat = module(&format!(r#"{once} (func (export "on_hit"))"#));
        // A hit with two units of fuel could never pay for it; and it does not eat of what a hit has.
        let mut rig = Setup { fuel: 2, ..Setup::default() }.start(&wat);
        assert_eq!([rig.hit(), rig.hit()], [Outcome::Executed; 2]);
        assert_eq!(rig.instance.fuel_left(), 1);
        let error = Setup { start_fuel: 5000, ..Setup::default() }.refused(&wat);
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::OutOfFuel), "{error:?}");
    }
}

#[test]
fn start_and_initialize_share_one_budget() {
    let work = format!(
        r#"(func $s {WORK}) (start $s) (func (export "_initialize") {WORK}) (func (export "on_hit"))"#
    );
    let enough = |start_fuel| Setup { start_fuel, ..Setup::default() }.try_start(&module(&work)).is_ok();
    // One of them takes 1 + 1000 rounds of seven operators.
    assert!(enough(2 * 7001) && !enough(7001 + 3500) && !enough(3500));
}

#[test]
fn a_trap_before_the_first_hit_is_no_instance() {
    for once in ["(func $s unreachable) (start $s)", r#"(func (export "_initialize") unreachable)"#] {
        let error = Setup::default().refused(&module(&format!(r#"{once} (func (export "on_hit"))"#)));
        assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::UnreachableCodeReached), "{error:?}");
    }
}

#[test]
fn initialize_may_use_memory_and_write_records() {
    let mut rig = Setup::default().start(&module(&format!(
        r#"(func (export "_initialize") (i64.store (i32.const 0) (i64.const 99))
             (call $log (i32.const 2) (i32.const 0) (i32.const 8)))
           (func (export "on_hit") {})"#,
        tell_code("(i64.load (i32.const 0))")
    )));
    let records = rig.records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].0.site, records[0].0.tid), (0, 0), "outside a hit");
    assert_eq!(rig.told(), 99);
}

#[test]
fn a_result_of_zero_says_that_the_condition_does_not_hold() {
    for (result, code, want) in [
        ("(result i32)", "(i32.const 0)", Outcome::ConditionFalse),
        ("(result i32)", "(i32.const 1)", Outcome::Executed),
        ("(result i32)", "(i32.const -1)", Outcome::Executed),
        ("", "", Outcome::Executed),
    ] {
        let mut rig = Setup::default().start(&on_hit(&format!("{result} {code}")));
        assert_eq!(rig.hit(), want, "{result} {code}");
    }
    // An answer does not stick to the next hit.
    let mut rig = Setup::default().start(&on_hit("(result i32) (i32.wrap_i64 (call $arg (i32.const 0)))"));
    for (value, want) in [(0, Outcome::ConditionFalse), (1, Outcome::Executed), (0, Outcome::ConditionFalse)]
    {
        rig.frame.rdi = value;
        assert_eq!(rig.hit(), want);
    }
}

#[test]
fn each_handler_runs_by_its_number_over_the_same_memory() {
    let mut rig = Setup { handlers: vec!["second", "first"], ..Setup::default() }.start(&module(&format!(
        r#"(func (export "first") (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 1))))
           (func (export "second") (result i32) {} (i32.const 1))"#,
        tell_code("(i64.load (i32.const 0))")
    )));
    assert_eq!([rig.hit_handler(1), rig.hit_handler(1)], [Outcome::Executed; 2]);
    assert_eq!(rig.told(), 2);
}

#[test]
fn a_handler_that_is_missing_or_of_another_type_is_refused() {
    for code in [
        r#"(func (export "other"))"#,
        r#"(func (export "on_hit") (param i32))"#,
        r#"(func (export "on_hit") (result i64) (i64.const 0))"#,
        r#"(func (export "on_hit") (result i32 i32) (i32.const 0) (i32.const 0))"#,
        r#"(global (export "on_hit") i32 (i32.const 0))"#,
    ] {
        Setup::default().refused(&module(code));
    }
    Setup::default()
        .refused(&module(r#"(func (export "on_hit")) (func (export "_initialize") (param i32))"#));
}

#[test]
fn an_import_that_does_not_exist_is_refused() {
    for import in [
        r#"(import "trocar" "nothing" (func))"#,
        r#"(import "env" "arg" (func (param i32) (result i64)))"#,
        r#"(import "trocar" "arg" (func (param i64) (result i64)))"#,
    ] {
        Setup::default().refused(&format!(r#"(module {import} (func (export "on_hit")))"#));
    }
}

#[test]
fn a_host_call_that_is_exported_again_is_no_handler() {
    let error =
        Setup::default().refused(r#"(module (func (export "on_hit") (import "trocar" "cpu") (result i32)))"#);
    assert!(format!("{error:#}").contains("a function of the module"), "{error:#}");
}

#[test]
fn a_start_function_reaches_memory_through_host_calls() {
    let code = "(drop (call $param_str (i32.const 0) (i32.const 8) (i32.const 3)))";
    let wat = module(&format!(
        r#"(func $s {code}) (start $s) (func (export "on_hit") {})"#,
        tell_code("(i64.load (i32.const 8))")
    ));
    let setup = Setup { params: vec![3], strings: b"abc".to_vec(), ..Setup::default() };
    assert_eq!(setup.start(&wat).told(), u64::from_le_bytes(*b"abc\0\0\0\0\0"));
}

#[test]
fn growing_over_the_memorys_own_maximum_answers_minus_one() {
    let mut rig = Setup { memory_max: 2 * WASM_PAGE, ..Setup::default() }.start(&format!(
        r#"(module (import "trocar" "emit" (func $emit (param i32 i32 i32))) (memory (export "memory") 1 2)
            (func (export "on_hit") {}))"#,
        tell_code("(i64.extend_i32_s (memory.grow (i32.const 2)))")
    ));
    assert_eq!(rig.told(), u64::MAX);
}

#[test]
fn a_memory_or_table_over_the_limit_is_refused_before_anything_runs() {
    let sized =
        |pages: u32| format!(r#"(module (memory (export "memory") {pages}) (func (export "on_hit")))"#);
    let one = || Setup { memory_max: WASM_PAGE, ..Setup::default() };
    assert!(one().try_start(&sized(1)).is_ok());
    one().refused(&sized(2));
    one().refused(&sized(65_536));
    Setup { memory_max: 0, ..Setup::default() }.refused(&sized(1));
    assert!(Setup { memory_max: 0, ..Setup::default() }.try_start(&sized(0)).is_ok());
    let table = |entries: u32| format!(r#"(module (table {entries} funcref) (func (export "on_hit")))"#);
    assert!(Setup::default().try_start(&table(10_000)).is_ok());
    Setup::default().refused(&table(10_001));
}

#[test]
fn data_segments_are_there_and_one_outside_memory_is_refused() {
    let with = |at: u32| {
        module(&format!(
            r#"(data (i32.const {at}) "ABCDEFGH") (func (export "on_hit") {})"#,
            tell_code("(i64.load (i32.const 65528))")
        ))
    };
    assert_eq!(Setup::default().start(&with(65_528)).told(), u64::from_le_bytes(*b"ABCDEFGH"));
    Setup::default().refused(&with(65_529));
}
