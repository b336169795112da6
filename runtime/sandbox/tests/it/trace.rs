//! Where a handler trapped: the same frames by both ways in, whatever trapped.

use trocar_sandbox::Outcome;

use crate::rig::{Setup, module};

/// Checks the frames of each kind of trap, as often by the one way in as by the other.
#[test]
fn each_trap_tells_its_frames_by_both_ways_in() {
    let rest = "(table 1 funcref) (type $none (func)) (data $d \"d\")";
    for code in [
        "unreachable",
        "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 1000))))",
        "(drop (i32.load (i32.const -4)))",
        "(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))",
        "(memory.init $d (i32.const 0) (i32.const 2) (i32.const 4))",
        "(drop (i32.trunc_f64_s (f64.const nan)))",
        "(call_indirect (type $none) (i32.const 0))",
        "(drop (memory.grow (i32.const 100)))",
        "(loop (br 0))",
        "(call $emit (i32.const 0) (i32.const -1) (i32.const 8))",
        "(drop (call $read (i64.const 0) (i32.const -1) (i32.const 8)))",
        "(call $counter_add (i32.const 9) (i32.const 0) (i64.const 1))",
    ] {
        let wat = module(&format!(
            "{rest} (func $deep (local i64) {code}) (func $mid (param i32) (call $deep))
             (func $top (export \"on_hit\") (call $mid (i32.const 1)) (call $mid (i32.const 2)))
             (func $other (export \"other\") (call $top))"
        ));
        let setup = Setup { fuel: 10_000, handlers: vec!["on_hit", "other"], ..Setup::default() };
        let mut rig = setup.start(&wat);
        for _ in 0..4 {
            assert!(matches!(rig.hit(), Outcome::Trapped(_)), "{code}");
            assert_eq!(rig.trapped_in(), ["deep", "mid", "top"], "{code}");
        }
        for _ in 0..2 {
            assert!(matches!(rig.hit_handler(1), Outcome::Trapped(_)), "{code}");
            assert_eq!(rig.trapped_in(), ["deep", "mid", "top", "other"], "{code}");
        }
    }
}

#[test]
fn a_stack_that_is_used_up_shows_its_innermost_frames() {
    let wat = module(
        "(func $f (param i64) (call $f (local.get 0))) (func (export \"on_hit\") (call $f (i64.const 0)))",
    );
    let mut rig = Setup::default().start(&wat);
    for _ in 0..2 {
        assert!(matches!(rig.hit(), Outcome::Trapped(_)));
        assert_eq!(rig.trapped_in(), ["f"; 16]);
    }
}
