//! Filters as libraries make them, filters that are none, and random ones, about which the kernel is asked too: in children
//! that filter themselves.
#![expect(
    unsafe_code,
    reason = "fork, filters, and a system call that nothing comes before or after, have no safe interface"
)]

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const KILL: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0001;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}
fn load(word: u32) -> Instruction {
    op(0x20, 4 * word)
}
fn ret(verdict: u32) -> Instruction {
    op(0x06, verdict)
}
fn when(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
fn equal(k: u32, jt: u8, jf: u8) -> Instruction {
    when(0x15, k, jt, jf)
}

const READ: u32 = 310;
const PID: u32 = 4711;

/// A read of the process's own memory: of its addresses nothing is known.
fn read() -> Data {
    data(READ, [Some(u64::from(PID)), None, Some(1), None, Some(1), Some(0)])
}
fn gettid() -> Data {
    data(186, [Some(0); 6])
}

/// What libraries make of a list of calls, in the order of their numbers: the architecture, the calls of its other half,
/// the list, the rest.
fn list(calls: &[u32], rest: u32) -> Vec<Instruction> {
    let mut program = vec![load(1), equal(X86_64, 1, 0), ret(KILL), load(0)];
    program.extend([when(0x35, 0x4000_0000, 0, 1), ret(KILL)]);
    for &call in calls {
        program.extend([equal(call, 0, 1), ret(ALLOW)]);
    }
    program.push(ret(rest));
    program
}

#[test]
fn a_list_allows_what_is_in_it() {
    for rest in [KILL, 0, TRAP, ERRNO, NOTIFY, TRACE, LOG, 0x1234_0000] {
        assert!(allows(&list(&[0, 1, 186, READ], rest), &read()));
        assert!(!allows(&list(&[0, 1, 186, 311], rest), &read()), "{rest:#x}");
        assert!(allows(&list(&[0, 1, 186], rest), &gettid()));
    }
    // What is not in it is allowed.
    assert!(allows(&list(&[], ALLOW), &read()));
    assert!(allows(&[ret(ALLOW)], &read()));
    // Data of a verdict says nothing.
    assert!(allows(&[ret(ALLOW | 0xffff)], &read()));
}

#[test]
fn a_tree_allows_what_is_in_it() {
    // Up to 199 on one side, from 200 on the other.
    let program = [
        load(0),
        when(0x35, 200, 2, 0),
        equal(186, 2, 0),
        ret(ERRNO),
        equal(READ, 0, 1),
        ret(ALLOW),
        ret(KILL),
    ];
    assert!(allows(&program, &read()) && allows(&program, &gettid()));
    assert!(!allows(&program, &data(201, [None; 6])) && !allows(&program, &data(0, [None; 6])));
}

#[test]
fn another_architecture_and_other_conventions_are_not_ours() {
    assert!(!allows(&[load(1), equal(0x4000_0003, 0, 1), ret(ALLOW), ret(KILL)], &read()));
    assert!(allows(&[load(1), equal(0x4000_0003, 0, 1), ret(KILL), ret(ALLOW)], &read()));
}

#[test]
fn an_argument_that_is_known_decides() {
    let whose = |pid: u32| [load(5), equal(0, 0, 3), load(4), equal(pid, 0, 1), ret(ALLOW), ret(KILL)];
    assert!(allows(&whose(PID), &read()));
    assert!(!allows(&whose(PID + 1), &read()));
    let high = data(READ, [Some(0x0000_0001_0000_1267), None, None, None, None, None]);
    assert!(!allows(&whose(0x1267), &high));
}

#[test]
fn an_argument_that_is_not_known_forbids_unless_it_does_not_matter() {
    let address = [load(10), when(0x45, 1, 0, 1), ret(KILL), ret(ALLOW)];
    assert!(!allows(&address, &read()));
    let either = [load(10), when(0x45, 1, 0, 1), ret(ALLOW), ret(ALLOW)];
    assert!(allows(&either, &read()));
    // Where `syscall` is.
    assert!(!allows(&[load(2), equal(0x7000_0002, 0, 1), ret(ALLOW), ret(KILL)], &read()));
    // By way of the other register, of memory, of calculations.
    let ways: [&[Instruction]; 4] = [
        &[load(10), op(0x07, 0), op(0x87, 0)],
        &[load(10), op(0x02, 3), op(0x00, 1), op(0x60, 3)],
        &[load(10), op(0x04, 7), op(0x84, 0)],
        &[load(10), op(0x07, 0), op(0x00, 1), op(0x0c, 0)],
    ];
    for way in ways {
        let program = [way, &[equal(1, 0, 1), ret(ALLOW), ret(KILL)]].concat();
        assert!(!allows(&program, &read()), "{way:?}");
        let known = data(READ, [Some(0); 6]);
        let verdicts = [ALLOW, KILL].map(|one| {
            let program =
                [way, &[equal(1, 0, 1), ret(one), ret(if one == ALLOW { KILL } else { ALLOW })]].concat();
            allows(&program, &known)
        });
        assert!(verdicts.contains(&true) && verdicts.contains(&false), "{way:?}");
    }
}

#[test]
fn what_two_ways_disagree_about_is_not_known_where_they_meet() {
    let met = |one: u32, two: u32| {
        [
            load(10),
            equal(0, 0, 2),
            op(0x00, one),
            op(0x05, 1),
            op(0x00, two),
            equal(7, 0, 1),
            ret(ALLOW),
            ret(KILL),
        ]
    };
    assert!(allows(&met(7, 7), &read()));
    assert!(!allows(&met(7, 8), &read()) && !allows(&met(8, 7), &read()));
}

#[test]
fn calculations_are_those_of_32_bits() {
    let results: [(&[Instruction], u32); 12] = [
        (&[op(0x04, u32::MAX), op(0x04, 2)], 6),
        (&[op(0x14, 6)], u32::MAX),
        (&[op(0x24, 0x8000_0001)], 0x8000_0005),
        (&[op(0x34, 2)], 2),
        (&[op(0x44, 8)], 13),
        (&[op(0x54, 4)], 4),
        (&[op(0x64, 31)], 0x8000_0000),
        (&[op(0x74, 2)], 1),
        (&[op(0xa4, 1)], 4),
        (&[op(0x84, 0)], 5u32.wrapping_neg()),
        (&[op(0x80, 0)], 64),
        (&[op(0x81, 0), op(0x1c, 0)], 5u32.wrapping_sub(64)),
    ];
    for (calculation, result) in results {
        let program = [&[op(0x00, 5)], calculation, &[equal(result, 0, 1), ret(ALLOW), ret(KILL)]].concat();
        assert!(allows(&program, &read()), "{calculation:?}");
    }
}

#[test]
fn what_no_filter_is_allows_nothing() {
    let bad: [&[Instruction]; 18] = [
        &[],
        // It ends without an answer, or is left behind its end.
        &[load(0)],
        &[op(0x05, 1), ret(ALLOW)],
        &[op(0x05, u32::MAX), ret(ALLOW)],
        &[load(10), equal(0, 0, 9), ret(ALLOW)],
        &[equal(0, 255, 255), ret(ALLOW)],
        // Loads from outside of the data, or between its words.
        &[op(0x20, 64), ret(ALLOW)],
        &[op(0x20, u32::MAX), ret(ALLOW)],
        &[op(0x20, 2), ret(ALLOW)],
        &[op(0x60, 16), ret(ALLOW)],
        &[op(0x02, 16), ret(ALLOW)],
        // Divisions by zero, or by what may be zero.
        &[op(0x34, 0), ret(ALLOW)],
        &[op(0x01, 0), op(0x3c, 0), ret(ALLOW)],
        &[load(10), op(0x07, 0), op(0x3c, 0), ret(ALLOW)],
        // Remainders, bytes, indirect loads, and what is no instruction.
        &[op(0x94, 3), ret(ALLOW)],
        &[op(0x30, 0), ret(ALLOW)],
        &[op(0x40, 0), ret(ALLOW)],
        &[op(0xffff, 0), ret(ALLOW)],
    ];
    for program in bad {
        assert!(!allows(program, &read()), "{program:?}");
    }
    // An answer that is not known.
    assert!(!allows(&[load(10), op(0x16, 0)], &read()));
    assert!(allows(&[op(0x00, ALLOW), op(0x16, 0)], &read()));
    let long = |n: usize| [vec![load(0); n - 1], vec![ret(ALLOW)]].concat();
    assert!(allows(&long(LENGTH_MAX), &read()) && !allows(&long(LENGTH_MAX + 1), &read()));
}

#[test]
fn as_many_ways_as_there_can_be_take_no_longer_than_one() {
    let mut program = vec![load(10)];
    while program.len() < LENGTH_MAX - 2 {
        program.extend([equal(u32::try_from(program.len()).unwrap(), 0, 1), op(0x04, 1)]);
    }
    program.push(ret(ALLOW));
    assert!(allows(&program, &read()));
}

/// Numbers that are the same in each run.
struct Numbers(u64);
impl Numbers {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 16) % u64::from(bound)).unwrap()
    }
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(u32::try_from(all.len()).unwrap()) as usize]
    }
}

/// A program that the kernel takes.
fn random(numbers: &mut Numbers) -> Vec<Instruction> {
    const CALCULATIONS: [u16; 8] = [0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0xa4, 0x84];
    const JUMPS: [u16; 4] = [0x15, 0x25, 0x35, 0x45];
    let constants = [0, 1, 3, 186, 187, 0x4000_0000, X86_64, X86_64 & 0xffff, u32::MAX, ALLOW];
    let len = 4 + numbers.below(24);
    let mut program: Vec<Instruction> = (0..16).map(|cell| op(0x02, cell)).collect();
    for at in 0..len {
        let k = numbers.one_of(&constants);
        let left = (len - at).min(6);
        let instruction = match numbers.below(14) {
            // Of everything but the instruction pointer.
            0..4 => load(numbers.one_of(&[0, 0, 0, 1, 1, 4, 5, 9, 15])),
            4..8 => {
                let (jt, jf) = (numbers.below(left), numbers.below(left));
                let code = numbers.one_of(&JUMPS) | numbers.one_of(&[0, 0, 0, 8]);
                when(code, k, u8::try_from(jt).unwrap(), u8::try_from(jf).unwrap())
            }
            8 => {
                let code = numbers.one_of(&CALCULATIONS);
                op(if code == 0x84 { code } else { code | numbers.one_of(&[0, 8]) }, k.max(1))
            }
            9 => op(numbers.one_of(&[0x64, 0x74]), numbers.below(32)),
            10 => op(numbers.one_of(&[0x60, 0x61, 0x02, 0x03]), numbers.below(16)),
            11 => op(numbers.one_of(&[0x07, 0x87, 0x80, 0x81]), 0),
            12 => op(numbers.one_of(&[0x00, 0x01]), k),
            _ => ret(numbers.one_of(&[ALLOW, ALLOW, ERRNO, TRAP, 0, KILL, TRACE])),
        };
        program.push(instruction);
    }
    program.push(ret(numbers.one_of(&[ALLOW, ERRNO, KILL])));
    program
}

/// Whether the kernel lets a process that has this filter call `gettid`. `None`: it takes no such filter.
///
/// The child makes no call after that one, whatever its filter is: it ends by an instruction that is none.
fn kernel_allows(program: &[Instruction], answer: &AtomicI64) -> Option<bool> {
    const REFUSED: i64 = -1000;
    const KILLED: i64 = -2000;
    answer.store(KILLED, Ordering::SeqCst);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the child calls only what may be called after fork, and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes numbers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel reads one `rlimit`.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
        // SAFETY: the kernel reads `len` instructions, which have the layout of `sock_filter`, and checks them.
        let taken =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
        let said = if taken == 0 {
            let said: i64;
            // SAFETY: gettid takes nothing; the kernel changes rax, rcx and r11. No signal of its own is handled here.
            unsafe {
                std::arch::asm!("syscall", inlateout("rax") 186i64 => said, in("rdi") 0, in("rsi") 0, in("rdx") 0, in("r10") 0,
                    in("r8") 0, in("r9") 0, lateout("rcx") _, lateout("r11") _);
            }
            said
        } else {
            REFUSED
        };
        answer.store(said, Ordering::SeqCst);
        // SAFETY: ends the child by SIGILL.
        unsafe { std::arch::asm!("ud2", options(noreturn)) };
    }
    assert!(child > 0, "no child");
    let mut status = 0;
    // SAFETY: the kernel writes one number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    match answer.load(Ordering::SeqCst) {
        REFUSED => None,
        said => Some(said == i64::from(child)),
    }
}

#[test]
fn random_filters_allow_what_the_kernel_says_they_do() {
    const PROGRAMS: usize = 1500;
    // SAFETY: a new mapping; it is never unmapped.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: mapped, aligned, and only ever used as this atomic word, here and in children.
    let answer = unsafe { AtomicI64::from_ptr(page.cast()) };
    let mut numbers = Numbers(0x5eed_0001);
    let mut seen = [0u32; 3];
    for _ in 0..PROGRAMS {
        let program = random(&mut numbers);
        let Some(truth) = kernel_allows(&program, answer) else { continue };
        let (known, unknown) = (allows(&program, &gettid()), allows(&program, &data(186, [None; 6])));
        // Scratch memory that nobody has written, and registers at the start, are zero in the kernel and unknown to us.
        assert!(truth || !known, "it kills or refuses: {program:?}");
        assert!(known || !unknown, "knowing less allows more: {program:?}");
        for (count, holds) in seen.iter_mut().zip([truth, known, unknown]) {
            *count += u32::from(holds);
        }
    }
    let [truth, known, unknown] = seen;
    // Of what the kernel allows, most is known to be allowed, and some is whatever the arguments are.
    assert!(truth > 300 && known * 10 > truth * 8 && unknown * 10 > truth * 3, "{seen:?}");
}
