//! What a probe sees of a hit.

use trocar_abi::import::SYSTEM_CALL;
use trocar_abi::operand::{NO_REGISTER, Operand, form};
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::rig::{
    CLOCK, FUNCTION, Fake, PROCESSOR, Rig, SITE, SITE_ADDRESS, STACK_POINTER, Setup, THREAD, module, tell,
    tell_code,
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

/// Argument 0 of a marker with one operand, and the reads that it took.
fn marker(operand: Operand, fuel: u64) -> (Result<u64, Outcome>, Vec<(u64, usize)>) {
    let target =
        Fake { operands: Some(vec![operand]), memory: vec![(0x206, vec![0xf0; 16])], ..Fake::default() };
    let mut rig = Setup { target, fuel, ..Setup::default() }.start(&tell("(call $arg (i32.const 0))"));
    let outcome = rig.hit();
    let told = match outcome {
        Outcome::Executed => Ok(u64::from_le_bytes(rig.payload().try_into().unwrap())),
        other => Err(other),
    };
    (told, rig.target.reads.lock().unwrap().clone())
}

#[test]
fn arguments_of_a_marker_are_where_its_note_says() {
    let none = Operand { base: NO_REGISTER, index: NO_REGISTER, size: 8, scale: 1, ..Operand::default() };
    let constant = Operand { form: form::CONSTANT, value: u64::MAX - 6, ..none };
    let register = Operand { form: form::REGISTER, base: 0, ..none };
    let memory = Operand { form: form::MEMORY, base: 6, value: 0x100, ..none };
    for (operand, want) in [
        (constant, u64::MAX - 6),
        (Operand { size: 4, ..constant }, 0xffff_fff9),
        (Operand { size: 4, signed: 1, ..constant }, u64::MAX - 6),
        (register, 0xffff_ffff_ffff_0100),
        (Operand { size: 1, shift: 8, ..register }, 1),
        (Operand { size: 2, ..register }, 0x100),
        (Operand { base: 7, ..register }, STACK_POINTER),
        (Operand { base: 40, ..register }, 0),
        (none, 0),
    ] {
        assert_eq!(marker(operand, 10_000), (Ok(want), vec![]), "{operand:?}");
    }
    // rbp is 0x106, so this is at 0x206; with rdi, 0x105, twice, it is out of what is there.
    let far = Operand { index: 5, scale: 2, ..memory };
    for (operand, want, read) in [
        (memory, 0xf0f0_f0f0_f0f0_f0f0, (0x206, 8)),
        (Operand { size: 2, ..memory }, 0xf0f0, (0x206, 2)),
        (Operand { size: 1, signed: 1, ..memory }, 0xffff_ffff_ffff_fff0, (0x206, 1)),
        (Operand { base: NO_REGISTER, value: 0x20e, ..memory }, 0xf0f0_f0f0_f0f0_f0f0, (0x20e, 8)),
        (far, 0, (0x410, 8)),
    ] {
        assert_eq!(marker(operand, 10_000), (Ok(want), vec![read]), "{operand:?}");
    }
}

#[test]
fn an_argument_of_a_marker_in_memory_costs_a_system_call() {
    let operand = Operand {
        form: form::MEMORY,
        base: NO_REGISTER,
        index: NO_REGISTER,
        size: 8,
        value: 0x206,
        ..Operand::default()
    };
    let (outcome, reads) = marker(operand, SYSTEM_CALL);
    assert!(matches!(outcome, Err(Outcome::Trapped(TrapCode::OutOfFuel))), "{outcome:?}");
    assert_eq!(reads, []);
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
fn site_thread_function_processor_and_clock_are_told() {
    for (call, want) in [
        ("(i64.extend_i32_u (call $site))", u64::from(SITE)),
        ("(i64.extend_i32_u (call $tid))", u64::from(THREAD)),
        ("(i64.extend_i32_u (call $function))", u64::from(FUNCTION)),
        ("(i64.extend_i32_u (call $cpu))", u64::from(PROCESSOR)),
        ("(call $time_ns)", CLOCK),
    ] {
        assert_eq!(Rig::of(&tell(call)).told(), want, "{call}");
    }
}

#[test]
fn how_long_a_call_took_is_told_at_the_exit_that_it_is_said_of() {
    let mut rig = Rig::of(&tell("(call $span_ns)"));
    assert_eq!(rig.told().cast_signed(), -1, "nothing was said");
    for (site, said, want) in
        [(SITE, 1234, 1234), (SITE, -1, -1), (SITE, i64::MAX, i64::MAX), (SITE + 1, 5678, -1), (SITE, 0, 0)]
    {
        rig.instance.set_span(site, said);
        assert_eq!(rig.told().cast_signed(), want, "{said} at {site}");
        assert_eq!(rig.instance.span_ns(site), said);
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
        (i64.extend_i32_u (i32.or (i32.or (call $site) (call $tid)) (i32.or (call $function) (i32.wrap_i64
            (i64.add (call $span_ns) (i64.const 1))))))))";
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
