//! Static cost, floats, and the report.

use trocar_abi::import::find;
use trocar_compile::Unbounded;

use crate::accepted;

/// Fuel bound and system calls of a module whose functions are given.
fn cost(functions: &str) -> (Option<u64>, Option<u32>) {
    let v = accepted(&format!(
        r#"(module (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
            (import "trocar" "counter_add" (func $count (param i32 i32 i64)))
            (memory (export "memory") 1) (table 1 funcref) (type $t (func)) {functions})"#
    ));
    (v.worst_fuel, v.system_calls_per_hit)
}

#[test]
fn fuel_is_one_for_each_operator_that_does_something() {
    assert_eq!(cost(r#"(func (export "on_hit"))"#), (Some(1), Some(0)));
    // Constants 3, call 1, entry 1.
    let count = "(call $count (i32.const 0) (i32.const 0) (i64.const 1))";
    assert_eq!(cost(&format!(r#"(func (export "on_hit") {count})"#)), (Some(5), Some(0)));
    let free = "nop (block (drop (i32.const 1)) (return)) unreachable";
    assert_eq!(cost(&format!(r#"(func (export "on_hit") {free})"#)), (Some(2), Some(0)));
    // The dearer side of a branch is counted: const, if, else 8, entry.
    let branch = format!("(if (i32.const 0) (then {count}) (else {count} {count}))");
    assert_eq!(cost(&format!(r#"(func (export "on_hit") {branch})"#)), (Some(11), Some(0)));
}

#[test]
fn host_calls_add_their_fuel_and_system_calls() {
    let read = find("read").unwrap();
    let call = "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))";
    let twice = format!(r#"(func $r {call}) (func (export "on_hit") (call $r) (call $r))"#);
    assert_eq!(cost(&twice), (Some(1 + 2 * (1 + 1 + 4 + read.fuel + 8 / 8)), Some(2 * read.system_calls)));
}

#[test]
fn the_dearest_handler_counts() {
    let toml = "abi=1\nname='p'\nhandlers=[{name='a'},{name='b'}]\n";
    let manifest = trocar_package::Manifest::from_toml(toml).unwrap();
    let bytes =
        wat::parse_str(r#"(module (func (export "a") nop) (func (export "b") (drop (i32.const 1))))"#)
            .unwrap();
    let v = trocar_compile::verify(&trocar_package::attach_section(&bytes, &manifest).unwrap()).unwrap();
    assert_eq!(v.worst_fuel, Some(2));
}

#[test]
fn loops_recursion_indirect_calls_and_bulk_operations_have_no_bound() {
    for text in [
        r#"(func (export "on_hit") (loop (br 0)))"#,
        r#"(func (export "on_hit") (loop (block (block (br_table 0 2 1 (i32.const 1))))))"#,
        r#"(func $f (export "on_hit") (call $f))"#,
        r#"(func $f (call $g)) (func $g (call $f)) (func (export "on_hit") (call $g))"#,
        r#"(func $far (loop (br 0))) (func $near (call $far)) (func (export "on_hit") (call $near) (call $near))"#,
        r#"(func (export "on_hit") (memory.fill (i32.const 0) (i32.const 0) (memory.size)))"#,
    ] {
        assert_eq!(cost(text), (None, Some(0)), "{text}");
    }
    let reads = "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))";
    for text in [
        format!(r#"(func (export "on_hit") (loop {reads} (br 0)))"#),
        format!(r#"(func $r {reads}) (func (export "on_hit") (loop (call $r) (br 0)))"#),
        // A table may hold the import.
        r#"(func (export "on_hit") (call_indirect (type $t) (i32.const 0)))"#.into(),
    ] {
        assert_eq!(cost(&text), (None, None), "{text}");
    }
}

#[test]
fn a_loop_that_nothing_goes_back_to_and_constant_lengths_have_a_bound() {
    assert_eq!(cost(r#"(func (export "on_hit") (loop (br_if 1 (i32.const 1))))"#), (Some(3), Some(0)));
    assert_eq!(cost(r#"(func (export "on_hit") (loop (return (br 0))))"#).0, None, "the branch comes first");
    assert_eq!(cost(r#"(func (export "on_hit") (loop (return) (br 0)))"#), (Some(1), Some(0)));
    let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 60000))";
    assert_eq!(cost(&format!(r#"(func (export "on_hit") {fill})"#)), (Some(60_005), Some(0)));
}

#[test]
fn a_loop_that_counts_to_a_constant_has_a_bound_and_no_other() {
    let next = "(local.tee $i (i32.add (local.get $i) (i32.const 1)))";
    let run = |before: &str, code: &str, condition: &str| {
        cost(&format!(
            r#"(func (export "on_hit") (local $i i32) (local $j i32) {before}
                (loop $l {code} (br_if $l {condition})))"#
        ))
        .0
    };
    let (start, until) = ("(local.set $i (i32.const 0))", format!("(i32.ne {next} (i32.const 10))"));
    // Entry, two before the loop, seven in each of ten rounds.
    assert_eq!(run(start, "", &until), Some(3 + 7 * 10));
    assert_eq!(run(start, "(local.set $j (local.get $i))", &until), Some(3 + 9 * 10));
    // What leaves the loop in its last round has run all the others.
    assert_eq!(
        run(start, "(if (local.get $j) (then (drop (local.get $j)) (return)))", &until),
        Some(3 + 9 * 10)
    );
    for (before, code, condition, why) in [
        ("", "", until.as_str(), "the start is not known"),
        ("(local.set $i (local.get $j))", "", &until, "nor here"),
        (
            "(local.set $i (i32.const 0)) (if (local.get $j) (then (local.set $i (i32.const 11))))",
            "",
            &until,
            "nor there",
        ),
        (start, "(local.set $i (i32.const 0))", &until, "it is set elsewhere"),
        (start, "(loop (local.set $i (i32.const 0)))", &until, "or in a loop within"),
        (start, "(br_if $l (local.get $j))", &until, "there is another branch back"),
        (start, "(block (br_table $l 0 (local.get $j)))", &until, "or a table"),
        (start, "", &format!("(i32.ne {next} (local.get $j))"), "the end is not known"),
        (start, "", &format!("(i32.ne {next} (i32.const -1))"), "it takes too long"),
        (start, "", &format!("(i32.and {next} (i32.const 1))"), "the condition is another one"),
        (start, "", "(i32.ne (local.get $i) (i32.const 10))", "it does not count"),
    ] {
        assert_eq!(run(before, code, condition), None, "{why}");
    }
    let outer = format!("(local.set $i (i32.const 0)) (loop $m (br_if $m {next}))");
    let nested = format!(
        r#"(func (export "on_hit") (local $i i32) (local $j i32) (local.set $j (i32.const 4))
            (loop $l {} (br_if $l (local.tee $j (i32.add (local.get $j) (i32.const -1))))))"#,
        outer.replace(next, &until)
    );
    assert_eq!(cost(&nested), (Some(3 + 4 * (2 + 7 * 10 + 5)), Some(0)));
    // The inner branch goes back to the outer loop.
    assert_eq!(run(start, &format!("(loop (br_if $l {until}))"), "(i32.const 0)"), None);
}

#[test]
fn each_handler_has_its_own_bound_and_the_reason_where_it_has_none() {
    let handler = |name: &str, code: &str| format!(r#"(func ${name} (export "{name}") {code})"#);
    let text = [
        handler("a", "nop"),
        handler("b", "(loop (br 0))"),
        handler("c", "(call $c)"),
        handler("d", "(call_indirect (i32.const 0))"),
        handler("e", "(memory.fill (i32.const 0) (i32.const 0) (memory.size))"),
        handler("f", "(if (i32.const 0) (then (call $a)))"),
    ];
    let toml =
        "abi=1\nname='p'\nhandlers=[{name='a'},{name='b'},{name='c'},{name='d'},{name='e'},{name='f'}]";
    let manifest = trocar_package::Manifest::from_toml(toml).unwrap();
    let bytes = wat::parse_str(format!("(module (memory 1) (table 1 funcref) {})", text.concat())).unwrap();
    let v = trocar_compile::verify(&trocar_package::attach_section(&bytes, &manifest).unwrap()).unwrap();
    let bounds: Vec<_> = v.handlers.iter().map(|h| h.worst_fuel).collect();
    assert_eq!(
        bounds,
        [
            Ok(1),
            Err(Unbounded::Loop),
            Err(Unbounded::Recursion),
            Err(Unbounded::Indirect),
            Err(Unbounded::Length),
            Ok(5)
        ]
    );
    assert_eq!((v.worst_fuel, v.system_calls_per_hit), (None, Some(0)));
    let report = v.report();
    let told: Vec<&str> =
        report.iter().filter(|(label, _)| *label == "handler").map(|(_, text)| text.as_str()).collect();
    assert_eq!(told.len(), 6);
    for (text, words) in told.iter().zip([
        "a: fuel <= 1; system calls <= 0",
        "because of a loop;",
        "because of recursion;",
        "because of a call through a table;",
        "because of an operation on as many bytes as a variable says;",
        "f: fuel <= 5;",
    ]) {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn fuel_bounds_the_system_calls_that_the_code_does_not() {
    let with = |code: &str| {
        accepted(&format!(
            r#"(module (import "trocar" "read" (func $read (param i64 i32 i32) (result i32)))
                (import "trocar" "read_str" (func $read_str (param i64 i32 i32) (result i32)))
                (memory (export "memory") 1) (func (export "on_hit") {code}))"#
        ))
    };
    let call = "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))";
    let price = find("read_str").unwrap().fuel;
    let endless = with(&format!("(loop {call} (br 0))"));
    assert_eq!(endless.system_calls_per_hit, None);
    assert_eq!(endless.most_system_calls(price * 5), Some(10), "five of `read_str`, at two each");
    assert_eq!(endless.most_system_calls(price - 1), Some(0));
    assert_eq!(with(call).most_system_calls(price * 5), Some(1), "proven");
    assert_eq!(with("nop").most_system_calls(1 << 40), Some(0));
}

#[test]
fn what_is_not_reached_costs_nothing() {
    let text = r#"(func $unused (loop (br 0)) (drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))) (func (export "on_hit"))"#;
    assert_eq!(cost(text), (Some(1), Some(0)));
}

#[test]
fn long_chains_and_wide_fans_of_calls_are_walked() {
    let mut chain = String::from(r#"(func (export "on_hit") (call $f0))"#);
    for i in 0..9_000 {
        chain += &format!("(func $f{i} (call $f{}))", i + 1);
    }
    chain += "(func $f9000)";
    assert_eq!(cost(&chain), (Some(2 + 9_000 * 2 + 1), Some(0)));
    // Doubling 80 times: the bound saturates instead of overflowing.
    let mut fan = String::from(r#"(func (export "on_hit") (call $f0))"#);
    for i in 0..80 {
        fan += &format!("(func $f{i} (call $f{n}) (call $f{n}))", n = i + 1);
    }
    fan += "(func $f80)";
    assert_eq!(cost(&fan), (Some(u64::MAX), Some(0)));
}

#[test]
fn floats_are_found_in_code() {
    assert!(!accepted(r#"(module (func (export "on_hit")))"#).uses_floats);
    for text in [
        "(drop (f64.const 1))",
        "(drop (i32.trunc_sat_f32_s (f32.const 1)))",
        "(drop (f32.load (i32.const 0)))",
    ] {
        let text = format!(r#"(module (memory 1) (func (export "on_hit")) (func {text}))"#);
        assert!(accepted(&text).uses_floats, "{text}");
    }
}

#[test]
fn the_report_states_bounds_or_why_there_is_none() {
    let rows = |text: &str| accepted(text).report();
    let find = |rows: &[(&str, String)], label: &str| {
        rows.iter().find(|(l, _)| *l == label).map(|(_, text)| text.clone()).unwrap()
    };
    let simple = rows(r#"(module (import "trocar" "tid" (func (result i32))) (func (export "on_hit")))"#);
    assert_eq!(find(&simple, "fuel per hit"), "<= 1");
    assert_eq!(find(&simple, "system calls per hit"), "<= 0");
    assert_eq!(find(&simple, "capabilities"), "thread");
    assert_eq!(find(&simple, "host calls"), "tid (thread)");
    assert_eq!(find(&simple, "features"), "none");
    let looping = rows(
        r#"(module (import "trocar" "read_str" (func $r (param i64 i32 i32) (result i32))) (memory (export "memory") 1)
            (func (export "on_hit") (loop (drop (call $r (i64.const 0) (i32.const 0) (i32.const 8))) (br 0))))"#,
    );
    assert_eq!(find(&looping, "system calls per hit"), "<= 2 per host call; how many calls, a loop decides");
}
