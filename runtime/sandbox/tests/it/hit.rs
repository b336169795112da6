//! What a probe sees of a hit.

use trocar_sandbox::Outcome;

use crate::rig::{
    CLOCK, PROCESSOR, Rig, SITE, SITE_ADDRESS, STACK_POINTER, Setup, THREAD, module, tell, tell_code,
};

#[test]
fn arguments_are_those_of_the_c_convention() {
    for (n, want) in [(0, 0x105), (1, 0x104), (2, 0x101), (3, 0x102), (4, 0x108), (5, 0x109)] {
        assert_eq!(Rig::of(&tell(&format!("(call $arg (i32.const {n}))"))).told(), want, "argument {n}");
    }
    for n in [6, 9, -1, i32::MIN] {
        assert_eq!(Rig::of(&tell(&format!("(call $arg (i32.const {n}))"))).told(), 0, "argument {n}");
    }
}

#[test]
fn arguments_of_go_are_those_of_its_own_convention() {
    let rax = 0xffff_ffff_ffff_0100;
    let wanted = [rax, 0x103, 0x102, 0x105, 0x104, 0x108, 0x109, 0x10a, 0x10b, 0];
    for (n, want) in wanted.into_iter().enumerate() {
        let setup = Setup { go_arguments: true, ..Setup::default() };
        let mut rig = setup.start(&tell(&format!("(call $arg (i32.const {n}))")));
        assert_eq!(rig.told(), want, "argument {n}");
    }
}

#[test]
fn registers_go_by_their_dwarf_numbers() {
    let rax = 0xffff_ffff_ffff_0100;
    for n in 0..=16u64 {
        let want = match n {
            0 => rax,
            7 => STACK_POINTER,
            16 => SITE_ADDRESS,
            n => 0x100 + n,
        };
        assert_eq!(Rig::of(&tell(&format!("(call $reg (i32.const {n}))"))).told(), want, "register {n}");
    }
    for n in [17, 255, -1] {
        assert_eq!(Rig::of(&tell(&format!("(call $reg (i32.const {n}))"))).told(), 0, "register {n}");
    }
    assert_eq!(Rig::of(&tell("(call $ret)")).told(), rax);
}

#[test]
fn site_thread_processor_and_clock_are_told() {
    for (call, want) in [
        ("(i64.extend_i32_u (call $site))", u64::from(SITE)),
        ("(i64.extend_i32_u (call $tid))", u64::from(THREAD)),
        ("(i64.extend_i32_u (call $cpu))", u64::from(PROCESSOR)),
        ("(call $time_ns)", CLOCK),
    ] {
        assert_eq!(Rig::of(&tell(call)).told(), want, "{call}");
    }
}

#[test]
fn each_hit_has_its_own_registers() {
    let mut rig = Rig::of(&tell("(call $arg (i32.const 0))"));
    for value in [1, u64::MAX, 0] {
        rig.frame.rdi = value;
        assert_eq!(rig.told(), value);
    }
}

#[test]
fn outside_a_hit_registers_are_zero() {
    // `_initialize` keeps what it sees; the hit adds to it what the registers hold by then.
    let seen = "(i64.or (i64.or (call $arg (i32.const 0)) (call $ret)) (i64.or (call $reg (i32.const 7))
        (i64.extend_i32_u (i32.or (call $site) (call $tid)))))";
    let mut rig = Rig::of(&module(&format!(
        r#"(global $seen (mut i64) (i64.const -1))
           (func (export "_initialize") (global.set $seen {seen}))
           (func (export "on_hit") {})"#,
        tell_code("(global.get $seen)")
    )));
    assert_eq!(rig.told(), 0);
}

#[test]
fn a_handler_that_does_nothing_is_executed() {
    let mut rig = Rig::of(r#"(module (func (export "on_hit")))"#);
    assert_eq!(rig.hit(), Outcome::Executed);
    assert!(rig.records().is_empty());
}
