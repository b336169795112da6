//! Go functions without a stack check: what the trampoline finds out before it pushes anything, run for real.
#![expect(unsafe_code, reason = "code that the encoder made is run")]

use std::cell::Cell;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use trocar_patch::{Analysis, FunctionRange, GO_STACK_ROOM, Image, Placement, Segment, SitePlan, Template};

const TEXT: u64 = 0x1000;

/// Registers before and after, and what was seen in between. The assembly below knows the offsets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// rax, rcx, rdx, rbx, rsi, rdi, r8, r9, r10, r11; 0.
    before: [u64; 10],
    /// 80.
    flags: u64,
    /// 88: zero, or where the two words below are.
    goroutine: u64,
    /// 96, 104: bytes from the stack pointer at the hit down and up to the ends of the goroutine's stack.
    low_below: u64,
    high_above: u64,
    /// 112: the ends.
    ends: [u64; 2],
    /// 128.
    after: [u64; 10],
    /// 208.
    flags_after: u64,
    /// 216: how far the stack pointer has moved.
    moved: u64,
    /// 224: 1 if nothing was written below the stack pointer.
    untouched: u64,
    /// 232: calls of the agent; what it was given in rcx, and what it takes for the hit's rcx.
    hits: u64,
    site: u64,
    rcx: u64,
}

std::arch::global_asm!(
    ".globl trocar_test_go_hit",
    // rdi: the trampoline; rsi: a State.
    "trocar_test_go_hit:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov r15, rdi",
    "mov rbp, rsi",
    // 32 words below the return address of the call.
    "mov ecx, 32",
    "2:",
    "mov qword ptr [rsp + rcx*8 - 272], 0x5a5a5a5a",
    "dec ecx",
    "jnz 2b",
    "lea rax, [rsp - 8]",
    "sub rax, [rbp + 96]",
    "mov [rbp + 112], rax",
    "lea rax, [rsp - 8]",
    "add rax, [rbp + 104]",
    "mov [rbp + 120], rax",
    "mov r14, [rbp + 88]",
    "mov [rbp + 216], rsp",
    "push qword ptr [rbp + 80]",
    "popfq",
    "mov rax, [rbp]",
    "mov rcx, [rbp + 8]",
    "mov rdx, [rbp + 16]",
    "mov rbx, [rbp + 24]",
    "mov rsi, [rbp + 32]",
    "mov rdi, [rbp + 40]",
    "mov r8, [rbp + 48]",
    "mov r9, [rbp + 56]",
    "mov r10, [rbp + 64]",
    "mov r11, [rbp + 72]",
    "call r15",
    "mov [rbp + 128], rax",
    "mov [rbp + 136], rcx",
    "mov [rbp + 144], rdx",
    "mov [rbp + 152], rbx",
    "mov [rbp + 160], rsi",
    "mov [rbp + 168], rdi",
    "mov [rbp + 176], r8",
    "mov [rbp + 184], r9",
    "mov [rbp + 192], r10",
    "mov [rbp + 200], r11",
    "pushfq",
    "pop qword ptr [rbp + 208]",
    "cld",
    "sub [rbp + 216], rsp",
    "mov ecx, 32",
    "3:",
    "cmp qword ptr [rsp + rcx*8 - 272], 0x5a5a5a5a",
    "jne 4f",
    "dec ecx",
    "jnz 3b",
    "mov qword ptr [rbp + 224], 1",
    "4:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // As the agent: all registers but rcx are as they were.
    ".globl trocar_test_go_agent",
    "trocar_test_go_agent:",
    "pushfq",
    "push rax",
    "inc qword ptr [rbp + 232]",
    "mov [rbp + 240], rcx",
    "mov rax, [rsp + 24]",
    "mov [rbp + 248], rax",
    "mov rcx, -1",
    "pop rax",
    "popfq",
    "ret",
);

unsafe extern "C" {
    fn trocar_test_go_hit(trampoline: *const u8, state: *mut State);
    fn trocar_test_go_agent();
}

const PAGE: usize = 4096;
const SITE: u32 = 0x0102_0304;

#[derive(Clone, Copy)]
enum Goroutine {
    None,
    /// The one with the ends in the state.
    This,
    /// What is no goroutine: to read there is a fault.
    Nowhere,
}
use Goroutine::{None as Nobody, Nowhere, This};

/// `mov eax,1; ret`, and a trampoline for its start, in memory of this process.
struct Running {
    base: NonNull<u8>,
}

impl Running {
    fn new(gate: u64) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping, which nothing else refers to.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), 3 * PAGE, access, MapFlags::PRIVATE) };
        let base = NonNull::new(base.unwrap().cast::<u8>()).unwrap();
        let at = base.as_ptr() as u64;
        let placement = Placement {
            bias: at - TEXT,
            trampoline: at + PAGE as u64,
            agent_cell: at + 2 * PAGE as u64,
            gate: at + 2 * PAGE as u64 + 8,
            site_index: SITE,
            red_zone: false,
            skipped_cell: Some(at + 2 * PAGE as u64 + 16),
        };
        let trampoline = Template::make(&plan(), &placement).unwrap().emit().unwrap();
        let put = |offset: usize, bytes: &[u8]| {
            assert!(offset + bytes.len() <= 3 * PAGE);
            // SAFETY: within the mapping.
            let to = unsafe { base.add(offset) };
            // SAFETY: as above, and nobody else uses it yet.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        };
        put(0, &MOVE);
        put(PAGE, &trampoline.bytes);
        put(2 * PAGE, &(trocar_test_go_agent as *const () as u64).to_le_bytes());
        put(2 * PAGE + 8, &gate.to_le_bytes());
        // SAFETY: the first two pages of the mapping, which hold code and are not written again.
        unsafe { mprotect(base.as_ptr().cast(), 2 * PAGE, MprotectFlags::READ | MprotectFlags::EXEC) }
            .unwrap();
        Self { base }
    }

    /// Where its byte `offset` is.
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < 3 * PAGE);
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// A hit, with these goroutines in r14 and in the thread's own word.
    fn hit(&self, state: State, [held, kept]: [Goroutine; 2]) -> State {
        let mut state = Box::new(state);
        let ends = (&raw const state.ends) as u64;
        let address = |goroutine| match goroutine {
            Goroutine::None => 0,
            Goroutine::This => ends,
            Goroutine::Nowhere => 0xd,
        };
        state.goroutine = address(held);
        GOROUTINE.set(address(kept));
        let at: *mut State = &raw mut *state;
        // SAFETY: the assembly keeps what the C ABI says, and its State has this layout; the box stays where it is. The code
        // that it calls is the trampoline, which this test is about.
        unsafe { trocar_test_go_hit(self.at(PAGE), at) };
        *state
    }

    fn skipped(&self) -> u64 {
        // SAFETY: eight aligned bytes of the mapping; only this thread runs the trampoline.
        unsafe { self.at(2 * PAGE + 16).cast::<u64>().read_volatile() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing runs in it.
        unsafe { munmap(self.base.as_ptr().cast(), 3 * PAGE) }.unwrap();
    }
}

/// `mov eax,1; ret`.
const MOVE: [u8; 6] = [0xb8, 1, 0, 0, 0, 0xc3];

thread_local! {
    /// Stands for the word in which Go keeps a thread's goroutine.
    static GOROUTINE: Cell<u64> = const { Cell::new(0) };
}

/// Where that word is, from the `fs` base.
fn offset() -> i32 {
    let base: u64;
    // SAFETY: reads the first word at the `fs` base, which on x86-64 is the base itself (System V ABI, TLS).
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) base, options(nostack, readonly, preserves_flags)) };
    let at = GOROUTINE.with(|word| std::ptr::from_ref(word) as u64);
    i32::try_from(at.wrapping_sub(base).cast_signed()).unwrap()
}

/// The plan for its start, in a program of Go, of which another function says where that word is.
fn plan() -> SitePlan {
    let says = [&[0x64, 0x48, 0x8b, 0x0c, 0x25], &offset().to_le_bytes()[..], &[0xc3]].concat();
    let other = TEXT + 0x100;
    let image = Image {
        functions: vec![
            FunctionRange { start: TEXT, end: TEXT + MOVE.len() as u64 },
            FunctionRange { start: other, end: other + says.len() as u64 },
        ],
        text: vec![
            Segment { vaddr: TEXT, bytes: MOVE.as_slice().into() },
            Segment { vaddr: other, bytes: says.into() },
        ],
        go: true,
        goroutines_searched: true,
        compiled: vec![TEXT],
        pie: true,
        ..Image::default()
    };
    Analysis::new(image).plan(TEXT).unwrap()
}

/// The status flags, one set of them each time.
fn flag_patterns() -> impl Iterator<Item = u64> {
    let flags = [0x1, 0x4, 0x10, 0x40, 0x80, 0x800];
    (0..1u64 << flags.len())
        .map(move |set| 0x202 | (0..flags.len()).filter(|n| set >> n & 1 != 0).map(|n| flags[n]).sum::<u64>())
}

const STATUS: u64 = 0x8d5;

#[test]
fn a_hit_runs_exactly_where_the_goroutines_stack_is_this_one_and_has_room() {
    let room = u64::from(GO_STACK_ROOM);
    let far = 1 << 40;
    // Bytes down and up to the ends, and whether there is room.
    let cases: [(u64, u64, bool); 13] = [
        (room, 8, true),
        (room + 8, far, true),
        (far, 4096, true),
        (room - 1, 4096, false),
        (8, 4096, false),
        (0, 4096, false),
        // Another stack, above and below.
        (0u64.wrapping_sub(8), far, false),
        (0u64.wrapping_sub(far), far + 4096, false),
        (far, 0, false),
        (far, 0u64.wrapping_sub(8), false),
        (far, 0u64.wrapping_sub(far / 2), false),
        (room, 1, true),
        (room - 8, 0, false),
    ];
    let running = Running::new(1);
    for (low_below, high_above, expected) in cases {
        for flags in flag_patterns() {
            let before: [u64; 10] = std::array::from_fn(|n| 0xdead_beef_0000_0101 * (n as u64 + 1));
            let state = State { before, flags, low_below, high_above, ..State::default() };
            let skipped = running.skipped();
            let after = running.hit(state, [This, This]);
            let what = format!("{low_below:#x} below, {high_above:#x} above, flags {flags:#x}: {after:x?}");
            assert_eq!(after.hits, u64::from(expected), "{what}");
            assert_eq!(running.skipped() - skipped, u64::from(!expected), "{what}");
            unchanged(&after, &what);
            if expected {
                assert_eq!((after.site, after.rcx), (u64::from(SITE), before[1]), "{what}");
            } else {
                assert_eq!(after.untouched, 1, "{what}");
            }
        }
    }
}

#[test]
fn without_a_goroutine_or_behind_a_closed_gate_nothing_is_read_or_written() {
    let room = State { low_below: 4096, high_above: 4096, ..State::default() };
    let others = [
        [Nobody, Nobody],
        [This, Nobody],
        [Nobody, This],
        [Nowhere, This],
        [This, Nowhere],
        [Nowhere, Nobody],
    ];
    for (gate, lost) in [(1, 1), (0, 0)] {
        let running = Running::new(gate);
        let closed = (gate == 0).then_some([This, This]);
        for goroutines in others.into_iter().chain(closed) {
            for flags in flag_patterns() {
                let before: [u64; 10] = std::array::from_fn(|n| 0x0101_dead_beef_0000 * (n as u64 + 1));
                let skipped = running.skipped();
                let after = running.hit(State { before, flags, ..room }, goroutines);
                assert_eq!(
                    (after.hits, running.skipped() - skipped, after.untouched),
                    (0, lost, 1),
                    "{after:x?}"
                );
                unchanged(&after, "no goroutine");
            }
        }
    }
}

/// All registers are as the function leaves them, which sets rax to 1.
fn unchanged(state: &State, what: &str) {
    assert_eq!(state.after[0], 1, "{what}");
    assert_eq!(state.after[1..], state.before[1..], "{what}");
    assert_eq!((state.flags_after & STATUS, state.moved), (state.flags & STATUS, 0), "{what}");
}
