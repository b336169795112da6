//! What each thing costs, and where exactly the fuel runs out.
//!
//! The engine looks at the fuel where a function is entered and where a loop begins anew, and there it wants some to be
//! left; a host call with a price wants that price. What runs after the last look is straight code, bounded by the size
//! of the module, and is charged but not stopped.

use trocar_abi::import::{IMPORTS, Ty};
use trocar_abi::map::MapKind;
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{Fake, PLENTY, Rig, Setup, module, on_hit};

fn setup(fuel: u64) -> Setup {
    Setup {
        maps: vec![(MapKind::Counter, 1, 0), (MapKind::Hist, 1, 0), (MapKind::Hash, 16, 256)],
        params: vec![4],
        strings: b"text".to_vec(),
        target: Fake { memory: vec![(0x5000, b"some letters".repeat(100))], ..Fake::default() },
        fuel,
        ..Setup::default()
    }
}

/// One hit with so much fuel: how it ended, what was left, and the instance.
fn run(wat: &str, fuel: u64) -> (Outcome, u64, Rig) {
    let mut rig = setup(fuel).start(wat);
    let outcome = rig.hit();
    let left = rig.instance.fuel_left();
    (outcome, left, rig)
}

/// Fuel that a hit uses when it has plenty.
fn used(wat: &str) -> u64 {
    let (outcome, left, _) = run(wat, PLENTY);
    assert_eq!(outcome, Outcome::Executed);
    PLENTY - left
}

/// Checks that `least` is the least fuel with which a hit is executed.
fn boundary(wat: &str, least: u64) {
    for fuel in least.saturating_sub(3)..least {
        let (outcome, left, _) = run(wat, fuel);
        assert_eq!((outcome, left), (Outcome::Trapped(TrapCode::OutOfFuel), 0), "{fuel} of {least}");
    }
    for fuel in [least, least + 1, least + 1000] {
        assert_eq!(run(wat, fuel).0, Outcome::Executed, "{fuel} of {least}");
    }
}

#[test]
fn entering_a_handler_costs_one_and_wants_some_left() {
    let wat = r#"(module (func (export "on_hit")))"#;
    assert_eq!(used(wat), 1);
    boundary(wat, 2);
    assert_eq!(run(wat, 0).0, Outcome::Trapped(TrapCode::OutOfFuel));
}

#[test]
fn a_loop_is_stopped_where_it_begins_anew() {
    // Eight operators for each round. The last look is at the start of the tenth round: 1 + 9 * 8 are used, and one
    // more must be there.
    let wat = on_hit(
        "(local $i i32) (loop $again
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $i) (i32.const 10))))",
    );
    assert_eq!(used(&wat), 1 + 10 * 8);
    boundary(&wat, 1 + 9 * 8 + 1);
}

#[test]
fn a_call_is_stopped_where_the_function_is_entered() {
    let wat =
        module(r#"(func $leaf (drop (i32.const 1))) (func (export "on_hit") (call $leaf) (call $leaf))"#);
    assert_eq!(used(&wat), 1 + 2 * (1 + 2));
    // Up to the second entry: own entry, call, leaf, call, entry; and one more.
    boundary(&wat, 1 + 1 + 2 + 1 + 1 + 1);
}

#[test]
fn what_is_filled_or_copied_is_charged_by_the_byte() {
    for code in [
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1000))",
        "(memory.copy (i32.const 0) (i32.const 2000) (i32.const 1000))",
    ] {
        let wat = on_hit(code);
        assert_eq!(used(&wat), 1 + 4 + 1000, "{code}");
        boundary(&wat, 1 + 4 + 1000 + 1);
    }
}

#[test]
fn an_endless_loop_is_stopped() {
    for code in [
        "(loop $l (br $l))",
        "(loop $l (br_if $l (i32.const 1)))",
        "(loop $l (call $counter_add (i32.const 0) (i32.const 0) (i64.const 1)) (br $l))",
    ] {
        let (outcome, left, _) = run(&on_hit(code), 10_000);
        assert_eq!((outcome, left), (Outcome::Trapped(TrapCode::OutOfFuel), 0), "{code}");
    }
}

/// A handler that does nothing but this call, and the bytes that the call is charged for.
pub fn one_call(name: &str) -> (String, u64) {
    const LEN: u32 = 44;
    let range = format!("(i32.const 0) (i32.const {LEN})");
    let (arguments, bytes) = match name {
        "arg" | "reg" | "param" => ("(i32.const 0)".to_owned(), 0),
        "ret" | "site" | "tid" | "cpu" | "time_ns" | "function" | "span_ns" => (String::new(), 0),
        "counter_add" => ("(i32.const 0) (i32.const 0) (i64.const 1)".to_owned(), 0),
        "hist_add" => ("(i32.const 1) (i32.const 0) (i64.const 1)".to_owned(), 0),
        "hash_add" | "hash_set" => (format!("(i32.const 2) {range} (i64.const 1)"), LEN),
        "hash_get" => (format!("(i32.const 2) {range}"), LEN),
        "emit" | "log" | "param_str" => (format!("(i32.const 0) {range}"), LEN),
        "read" | "read_str" => (format!("(i64.const 0x5000) {range}"), LEN),
        _ => panic!("{name} is new: give its arguments here"),
    };
    let call = format!("(call ${name} {arguments})");
    let import = trocar_abi::import::find(name).unwrap();
    (if import.result.is_some() { format!("(drop {call})") } else { call }, u64::from(bytes))
}

#[test]
fn a_host_call_costs_its_price_and_one_for_eight_bytes() {
    for import in IMPORTS {
        let (code, bytes) = one_call(import.name);
        let before = 1 + import.params.len() as u64 + 1;
        assert_eq!(used(&on_hit(&code)), before + import.fuel + bytes / 8, "{}", import.name);
    }
}

#[test]
fn fuel_runs_out_inside_a_host_call_at_its_exact_price() {
    for import in IMPORTS.iter().filter(|i| i.fuel > 0) {
        let (code, bytes) = one_call(import.name);
        let wat = on_hit(&code);
        let whole = 1 + import.params.len() as u64 + 1 + import.fuel + bytes / 8;
        boundary(&wat, whole);
        assert_eq!(run(&wat, whole).1, 0, "{}", import.name);
        // A call that could not be paid has done nothing.
        let (_, _, mut rig) = run(&wat, whole - 1);
        assert!(rig.records().is_empty(), "{}", import.name);
        assert!(rig.rows(2).is_empty(), "{}", import.name);
        assert!(rig.target.reads.lock().unwrap().is_empty(), "{}", import.name);
    }
}

#[test]
fn a_string_on_two_pages_is_charged_for_two_system_calls() {
    let string = |at: u64| {
        let memory = vec![(0x5000, b"some letters".repeat(1000))];
        let target = Fake { memory, ..Fake::default() };
        let code = format!("(drop (call $read_str (i64.const {at}) (i32.const 0) (i32.const 64)))");
        let mut rig = Setup { target, ..setup(PLENTY) }.start(&on_hit(&code));
        assert_eq!(rig.hit(), Outcome::Executed);
        PLENTY - rig.instance.fuel_left()
    };
    let call = trocar_abi::import::known("read_str");
    let before = 1 + call.params.len() as u64 + 1;
    assert_eq!(string(0x5000), before + call.price(64));
    assert_eq!(string(0x5ff0), before + call.worst_price(64));
}

#[test]
fn a_host_call_that_took_the_last_fuel_stops_the_next_round() {
    let price = trocar_abi::import::find("time_ns").unwrap().fuel;
    let wat = on_hit("(loop $again (drop (call $time_ns)) (br $again))");
    // Entry, then a call and a branch for each round: with exactly three calls paid, the third round ends at its branch.
    let (outcome, left, _) = run(&wat, 1 + 2 * (1 + price + 1) + 1 + price);
    assert_eq!((outcome, left), (Outcome::Trapped(TrapCode::OutOfFuel), 0));
}

#[test]
fn a_huge_length_cannot_make_a_call_cheap() {
    // Eight bytes for each unit of fuel: no length can wrap the price.
    for import in IMPORTS {
        let name = import.name;
        let Some(code) = (match name {
            "emit" | "log" | "hash_get" | "param_str" => {
                Some(format!("(call ${name} (i32.const 2) (i32.const 0) (i32.const -1))"))
            }
            "hash_add" | "hash_set" => {
                Some(format!("(call ${name} (i32.const 2) (i32.const 0) (i32.const -1) (i64.const 1))"))
            }
            "read" | "read_str" => {
                Some(format!("(call ${name} (i64.const 0x5000) (i32.const 0) (i32.const -1))"))
            }
            _ => None,
        }) else {
            continue;
        };
        let code = if import.result.is_some() { format!("(drop {code})") } else { code };
        let (outcome, _, _) = run(&on_hit(&code), 10_000);
        assert!(
            matches!(outcome, Outcome::Trapped(TrapCode::OutOfFuel | TrapCode::HostCall)),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn every_hit_has_the_whole_fuel() {
    let wat = on_hit(
        "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))",
    );
    let cost = used(&wat);
    let mut rig = setup(cost + 1).start(&wat);
    for _ in 0..50 {
        assert_eq!(rig.hit(), Outcome::Executed);
        assert_eq!(rig.instance.fuel_left(), 1);
    }
    // Out of fuel once, not for ever.
    let mut rig = setup(1000).start(&on_hit("(loop $l (br_if $l (i32.wrap_i64 (call $arg (i32.const 0)))))"));
    rig.frame.rdi = 1;
    rig.traps(TrapCode::OutOfFuel);
    rig.frame.rdi = 0;
    assert_eq!(rig.hit(), Outcome::Executed);
}

#[test]
fn the_table_of_calls_is_covered() {
    for import in IMPORTS {
        let (code, bytes) = one_call(import.name);
        assert_eq!(code.contains("i64.const"), import.params.contains(&Ty::I64), "{}", import.name);
        assert_eq!(
            bytes > 0,
            import.about.contains("ptr") || import.about.contains("the key"),
            "{}",
            import.name
        );
    }
}
