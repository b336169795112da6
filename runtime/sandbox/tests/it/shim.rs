//! The shim of languages' runtimes: what WASI functions answer, what is printed, how a probe ends itself.

use trocar_abi::import::Ty;
use trocar_abi::record::RecordHead;
use trocar_abi::shared::TrapCode;
use trocar_abi::shim::{SHIM, errno};
use trocar_sandbox::Outcome;

use crate::rig::{CLOCK, PLENTY, REAL_CLOCK, Rig, Setup, WASM_PAGE};

/// A module that imports the whole shim and `emit`, from the rest of its text.
fn module(rest: &str) -> String {
    let name = |ty: &Ty| if *ty == Ty::I32 { "i32" } else { "i64" };
    let imports: String = SHIM
        .iter()
        .map(|i| {
            let params: Vec<&str> = i.params.iter().map(name).collect();
            let result = i.result.as_ref().map_or(String::new(), |ty| format!("(result {})", name(ty)));
            format!(
                r#"(import "{}" "{1}" (func ${1} (param {2}) {result}))"#,
                i.module,
                i.name,
                params.join(" ")
            )
        })
        .collect();
    format!(
        r#"(module {imports} (import "trocar" "emit" (func $emit (param i32 i32 i32)))
           (memory (export "memory") 1) {rest})"#
    )
}

/// One hit of a probe that calls `call`, which answers `answer`, and then tells `len` bytes at 64.
fn answers(call: &str, answer: i32, len: usize) -> Vec<u8> {
    let wat = module(&format!(
        r#"(func (export "on_hit") (memory.fill (i32.const 64) (i32.const 0xee) (i32.const 256))
             (i32.store (i32.const 60) (call {call}))
             (call $emit (i32.const 0) (i32.const 60) (i32.const {})))"#,
        len + 4
    ));
    let mut rig = Rig::of(&wat);
    assert_eq!(rig.hit(), Outcome::Executed, "{call}");
    let told = rig.payload();
    assert_eq!(told[..4], answer.to_le_bytes(), "{call}");
    told[4..].to_vec()
}

/// A probe that writes each text to a descriptor, one `fd_write` for each list, one piece for each text.
fn prints(writes: &[(u32, &[&str])], end: &str) -> String {
    let (mut data, mut code, mut at) = (String::new(), String::new(), 1000);
    for (fd, pieces) in writes {
        let list = at;
        at += 8 * pieces.len();
        let mut words = Vec::new();
        for text in *pieces {
            words.extend_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            words.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
            data += &format!("(data (i32.const {at}) \"{}\")", hex(text.as_bytes()));
            at += text.len();
        }
        data += &format!("(data (i32.const {list}) \"{}\")", hex(&words));
        code += &format!(
            "(if (call $fd_write (i32.const {fd}) (i32.const {list}) (i32.const {}) (i32.const 0)) (then unreachable))
             (if (i32.ne (i32.load (i32.const 0)) (i32.const {})) (then unreachable))",
            pieces.len(),
            pieces.iter().map(|t| t.len()).sum::<usize>(),
        );
    }
    module(&format!(r#"{data} (func (export "on_hit") {code} {end})"#))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\{b:02x}")).collect()
}

/// Level and text of each record.
fn lines(rig: &mut Rig) -> Vec<(u16, String)> {
    let line = |(head, text): (RecordHead, Vec<u8>)| (head.tag, String::from_utf8(text).unwrap());
    rig.records().into_iter().map(line).collect()
}

#[test]
fn there_are_no_arguments_and_no_environment() {
    for what in ["args", "environ"] {
        let sizes = format!("${what}_sizes_get (i32.const 64) (i32.const 68)");
        assert_eq!(answers(&sizes, errno::SUCCESS, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
        let get = format!("${what}_get (i32.const 64) (i32.const 68)");
        assert_eq!(answers(&get, errno::SUCCESS, 4), [0xee; 4]);
    }
}

#[test]
fn clocks_are_the_targets() {
    let clock = |id| format!("$clock_time_get (i32.const {id}) (i64.const 1) (i32.const 64)");
    assert_eq!(answers(&clock(0), errno::SUCCESS, 8), REAL_CLOCK.to_le_bytes());
    assert_eq!(answers(&clock(1), errno::SUCCESS, 8), CLOCK.to_le_bytes());
    for id in [2, 3, -1] {
        assert_eq!(answers(&clock(id), errno::INVAL, 8), [0xee; 8]);
    }
}

#[test]
fn descriptors_are_terminals_without_files() {
    for (fd, close, seek) in
        [(0, errno::SUCCESS, errno::SPIPE), (2, errno::SUCCESS, errno::SPIPE), (3, errno::BADF, errno::BADF)]
    {
        answers(&format!("$fd_close (i32.const {fd})"), close, 0);
        answers(&format!("$fd_seek (i32.const {fd}) (i64.const 0) (i32.const 0) (i32.const 64)"), seek, 0);
    }
    let stat = answers("$fd_fdstat_get (i32.const 1) (i32.const 64)", errno::SUCCESS, 25);
    assert_eq!((stat[0], &stat[1..8], stat[8], stat[24]), (2, &[0; 7][..], 1 << 6, 0xee));
    answers("$fd_fdstat_get (i32.const 3) (i32.const 64)", errno::BADF, 0);
    answers("$fd_write (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 60)", errno::BADF, 0);
    answers("$fd_write (i32.const 1) (i32.const 64) (i32.const 65) (i32.const 60)", errno::INVAL, 0);
    answers("$sched_yield", errno::SUCCESS, 0);
}

#[test]
fn nobody_sleeps_in_a_hit() {
    let poll =
        |count| format!("$poll_oneoff (i32.const 600) (i32.const 64) (i32.const {count}) (i32.const 60)");
    let wat = module(&format!(
        r#"(data (i32.const 600) "\11\22\33\44\55\66\77\88\00") (data (i32.const 648) "\01\00\00\00\00\00\00\00\02")
           (func (export "on_hit") (if (call {}) (then unreachable))
             (call $emit (i32.const 0) (i32.const 60) (i32.const 68)))"#,
        poll(2)
    ));
    let mut rig = Rig::of(&wat);
    assert_eq!(rig.hit(), Outcome::Executed);
    let told = rig.payload();
    assert_eq!(told[..4], 2u32.to_le_bytes());
    assert_eq!(told[4..16], [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0]);
    assert_eq!(told[36..48], [1, 0, 0, 0, 0, 0, 0, 0, errno::NOTSUP.to_le_bytes()[0], 0, 2, 0]);
    answers(&poll(0), errno::INVAL, 0);
    answers(&poll(65), errno::INVAL, 0);
    answers(&poll(-1), errno::INVAL, 0);
}

#[test]
fn random_numbers_fill_the_range_differ_and_follow_from_the_seed() {
    let once = answers("$random_get (i32.const 64) (i32.const 29)", errno::SUCCESS, 32);
    assert_eq!(once[29..], [0xee; 3]);
    let (words, _) = once.as_chunks::<8>();
    assert!(words[0] != words[1] && words[1] != words[2] && words[0] != [0; 8], "{once:?}");
    assert_eq!(once, answers("$random_get (i32.const 64) (i32.const 29)", errno::SUCCESS, 32), "same seed");
    let wat = module(
        r#"(func (export "on_hit") (drop (call $random_get (i32.const 64) (i32.const 8)))
             (call $emit (i32.const 0) (i32.const 64) (i32.const 8)))"#,
    );
    let mut rig = Rig::of(&wat);
    let numbers: std::collections::BTreeSet<u64> = (0..500).map(|_| rig.told()).collect();
    assert_eq!(numbers.len(), 500, "each hit goes on where the last one ended");
}

#[test]
fn what_is_printed_becomes_lines_however_it_is_cut() {
    let mut rig = Rig::of(&prints(&[(1, &["one\nt", "w"]), (1, &["o\n\n"]), (2, &["three", "\nfour"])], ""));
    assert_eq!(rig.hit(), Outcome::Executed);
    let text = |level, text: &str| (level, text.to_owned());
    assert_eq!(lines(&mut rig), [text(2, "one"), text(2, "two"), text(1, "three")], "an empty line is none");
    // What has not ended comes with the next hit: the rest of standard error, when standard output is written to.
    assert_eq!(rig.hit(), Outcome::Executed);
    assert_eq!(lines(&mut rig)[0], text(1, "four"));
}

#[test]
fn a_long_line_is_cut_and_nothing_of_it_is_lost() {
    let text: String = (0..1300u32).map(|i| char::from(b'a' + u8::try_from(i % 26).unwrap())).collect();
    let mut rig = Rig::of(&prints(&[(1, &[&text, "\n"])], ""));
    assert_eq!(rig.hit(), Outcome::Executed);
    let lines = lines(&mut rig);
    assert_eq!(lines.iter().map(|l| l.1.len()).collect::<Vec<_>>(), [512, 512, 276]);
    assert_eq!(lines.into_iter().map(|l| l.1).collect::<String>(), text);
}

#[test]
fn an_exit_is_a_trap_that_shows_what_was_printed_last() {
    let mut rig = Rig::of(&prints(&[(2, &["panic: no"])], "(call $proc_exit (i32.const 2))"));
    for _ in 0..2 {
        rig.traps(TrapCode::Exit);
        assert_eq!(lines(&mut rig), [(1, "panic: no".to_owned())]);
    }
}

/// A probe that aborts with AssemblyScript's strings.
fn aborts(message: &str, file: &str) -> String {
    let string = |at: usize, text: &str| {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let len = u32::try_from(units.len()).unwrap().to_le_bytes();
        format!(r#"(data (i32.const {}) "{}{}")"#, at - 4, hex(&len), hex(&units))
    };
    module(&format!(
        r#"{} {} (func (export "on_hit")
            (call $abort (i32.const 1000) (i32.const 4000) (i32.const 12) (i32.const 5)) unreachable)"#,
        string(1000, message),
        string(4000, file)
    ))
}

#[test]
fn an_abort_is_a_trap_and_tells_message_and_place() {
    let mut rig = Rig::of(&aborts("Index out of range \u{1f980}", "probe.ts"));
    for _ in 0..2 {
        rig.traps(TrapCode::Exit);
        assert_eq!(lines(&mut rig), [(0, "abort: Index out of range \u{1f980} at probe.ts:12:5".to_owned())]);
    }
    let mut rig = Rig::of(&aborts(&"x".repeat(1000), &"y".repeat(1000)));
    rig.traps(TrapCode::Exit);
    assert_eq!(lines(&mut rig)[0].1, format!("abort: {} at {}:12:5", "x".repeat(120), "y".repeat(120)));
}

#[test]
fn an_abort_with_no_string_is_one_too() {
    for (message, file) in [(0, 0), (3, -1), (65_540, 65_537), (-4, 2000)] {
        let mut rig = Rig::of(&module(&format!(
            r#"(data (i32.const 1996) "\ff\ff\ff\ff") (func (export "on_hit")
                (call $abort (i32.const {message}) (i32.const {file}) (i32.const -1) (i32.const 0)))"#
        )));
        rig.traps(TrapCode::Exit);
        assert_eq!(lines(&mut rig), [(0, "abort: ? at ?:4294967295:0".to_owned())], "{message} {file}");
    }
}

#[test]
fn a_range_outside_memory_traps_and_writes_nothing() {
    let end = WASM_PAGE;
    for call in [
        format!("$args_sizes_get (i32.const {}) (i32.const 0)", end - 3),
        "$environ_sizes_get (i32.const 0) (i32.const -1)".to_owned(),
        format!("$clock_time_get (i32.const 1) (i64.const 0) (i32.const {})", end - 7),
        format!("$fd_fdstat_get (i32.const 1) (i32.const {})", end - 23),
        format!("$random_get (i32.const {}) (i32.const 2)", end - 1),
        "$random_get (i32.const 1) (i32.const -1)".to_owned(),
        format!("$fd_write (i32.const 1) (i32.const {}) (i32.const 1) (i32.const 0)", end - 7),
        // A piece that reaches over the end: its list is what the memory begins with.
        "$fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0)".to_owned(),
        format!("$fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const {})", end - 3),
        format!("$poll_oneoff (i32.const {}) (i32.const 0) (i32.const 1) (i32.const 0)", end - 47),
        format!("$poll_oneoff (i32.const 0) (i32.const {}) (i32.const 1) (i32.const 0)", end - 31),
        "$poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const -1)".to_owned(),
    ] {
        let data = r#"(data (i32.const 16) "\f0\ff\00\00\11\00\00\00")"#;
        let wat = module(&format!(r#"{data} (func (export "on_hit") (drop (call {call})))"#));
        let mut rig = Setup { fuel: PLENTY, ..Setup::default() }.start(&wat);
        rig.traps(TrapCode::HostCall);
        assert!(rig.records().is_empty(), "{call}");
    }
}

#[test]
fn printing_is_paid_for_by_the_line_and_by_the_byte() {
    let fuel = |text: &str| {
        let mut rig = Rig::of(&prints(&[(1, &[text])], ""));
        assert_eq!(rig.hit(), Outcome::Executed);
        PLENTY - rig.instance.fuel_left()
    };
    let empty = fuel("");
    assert_eq!(fuel("a\n") - empty, 40);
    assert_eq!(fuel(&"a\n".repeat(4)) - empty, 1 + 4 * 40);
    assert_eq!(fuel(&"\n".repeat(400)) - empty, 50 + 400 * 40, "empty lines are not for nothing");
    // 4096 bytes, once as they are read and again in the eight lines that they fill.
    assert_eq!(fuel(&"a".repeat(4096)) - empty, 512 + 8 * (40 + 64));
}

#[test]
fn random_bytes_and_pieces_are_paid_for_by_their_number() {
    let fuel = |call: String| {
        let wat = module(&format!(r#"(func (export "on_hit") (drop (call {call})))"#));
        let mut rig = Setup { fuel: PLENTY, ..Setup::default() }.start(&wat);
        assert_eq!(rig.hit(), Outcome::Executed, "{call}");
        PLENTY - rig.instance.fuel_left()
    };
    let random = |len| fuel(format!("$random_get (i32.const 64) (i32.const {len})"));
    // A unit of fuel is 0.6 ns, and eight bytes take two: more than the eighth of a unit for bytes that are only moved.
    assert_eq!([16, 4096, 60_000].map(|len| random(len) - random(0)), [8, 2048, 30_000]);
    // Pieces without a byte are looked at all the same.
    let write =
        |pieces| fuel(format!("$fd_write (i32.const 1) (i32.const 64) (i32.const {pieces}) (i32.const 0)"));
    assert_eq!([1, 2, 64].map(|pieces| write(pieces) - write(0)), [8, 16, 512]);
}
