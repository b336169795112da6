//! The second tier: a handler that was proven simple, as native code that a hit runs instead of the agent.
//!
//! Trampolines call through a cell. With a stub it leads here: the thread's context is looked up, a handful of words is
//! looked at, and the handler's code (`trocar_compile::lower`) counts in that context's own shards. Whatever is not as
//! usual goes to the agent as if there were no stub: a thread without a context, one that is inside a hit or new to its
//! context, a probe that is not armed, a dead host.
//!
//! INVARIANT (stub): what it changes in memory are words of the context's own block, each by one instruction. So a signal
//! handler that comes in between, and hits a site itself, takes nothing away; it needs no exchange to enter. The agent never
//! runs inside the same context meanwhile: the stub looks at `inside`, and a handler on top of it ends before it goes on.
//! A second task with the same thread pointer that runs at the same time (`clone` with CLONE_VM, without CLONE_SETTLS and
//! CLONE_VFORK) may take counts from the first, and does no harm. A detach finds a thread that is in the stub by its
//! registers or by its signal frame, as one in a trampoline: a frame on a stack that no thread is on is not found.
#![expect(
    unsafe_code,
    reason = "code for the target is assembled here, and its bytes have no safe name in Rust"
)]

use std::mem::offset_of;

use trocar_abi::control::Control;
use trocar_abi::hit::{ContextHead, SLOT_FACTOR};
use trocar_abi::shared::{ProbeState, SharedHead};

use crate::region::Region;
use crate::request::StubPlan;

/// One way in: how it reads the thread pointer, and whether it hands over the registers.
macro_rules! entry {
    ($name:literal, $pointer:literal, [$($save:literal),*], [$($restore:literal),*]) => {
        core::arch::global_asm!(
            ".pushsection .rodata.trocar_stub, \"a\", @progbits",
            ".balign 16",
            // Who uses them may be compiled into another object.
            concat!(".globl trocar_stub_", $name, ", trocar_stub_", $name, "_table"),
            concat!(".hidden trocar_stub_", $name, ", trocar_stub_", $name, "_table"),
            concat!("trocar_stub_", $name, ":"),
            // The trampoline has pushed rcx and left the site's index in ecx. Flags go by `lahf`, which is faster than
            // `pushfq`; those that it does not hold (direction, alignment check) are not changed here.
            "push rax",
            "lahf",
            "seto al",
            "push rax",
            "push rdx",
            $pointer,
            // The thread's slot (`trocar_abi::hit::first_slot`), or the one behind it.
            "movabs rdx, {factor}",
            "imul rdx, rax",
            "shr rdx, 32",
            "and rdx, [rip + 0]", "30:",
            "shl rdx, 4",
            "add rdx, [rip + 0]", "31:",
            "cmp rax, [rdx]",
            "jne 28f",
            "20: mov rdx, [rdx + 8]",
            "mov eax, [rdx + {inside}]",
            "or eax, [rdx + {stale}]",
            "or eax, [rip + 0]", "32:", // armed is zero
            "jnz 29f",
            "test byte ptr [rip + 0], 0x40", "33:",
            "jnz 29f",
            "push rsi",
            "push rdi",
            $($save,)*
            "mov rdi, [rdx + {shared}]",
            "mov esi, ecx",
            "mov rdx, rsp", // the `StubFrame`, where registers are handed over
            "call 27f",
            $($restore,)*
            "pop rdi",
            "pop rsi",
            "pop rdx",
            "pop rax",
            "add al, 0x7f",
            "sahf",
            "pop rax",
            "ret",
            // Not in its first slot. Behind the last one there is another, always free.
            "28: add rdx, 16",
            "cmp rax, [rdx]",
            "je 20b",
            "29: pop rdx",
            "pop rax",
            "add al, 0x7f",
            "sahf",
            "pop rax",
            "jmp [rip + 0]", "34:",
            ".balign 16, 0xcc",
            "27:", // the handler's code
            ".balign 8",
            concat!("trocar_stub_", $name, "_table:"), // in the order of `Table`
            concat!(".quad 30b - trocar_stub_", $name, ", 31b - trocar_stub_", $name),
            concat!(".quad 32b - trocar_stub_", $name, ", 33b - trocar_stub_", $name),
            concat!(".quad 34b - trocar_stub_", $name, ", 27b - trocar_stub_", $name),
            ".popsection",
            factor = const SLOT_FACTOR,
            inside = const offset_of!(ContextHead, inside),
            stale = const offset_of!(ContextHead, stale),
            shared = const offset_of!(ContextHead, shared),
        );
    };
}

entry!("fs", "mov rax, fs:[0]", [], []);
entry!("base", "rdfsbase rax", [], []);
// In the order of `StubFrame`, from its end. The handler's code keeps every register.
entry!(
    "fs_registers",
    "mov rax, fs:[0]",
    [
        "push rbp", "push rbx", "push r15", "push r14", "push r13", "push r12", "push r11", "push r10",
        "push r9", "push r8"
    ],
    ["lea rsp, [rsp + 80]"]
);
entry!(
    "base_registers",
    "rdfsbase rax",
    [
        "push rbp", "push rbx", "push r15", "push r14", "push r13", "push r12", "push r11", "push r10",
        "push r9", "push r8"
    ],
    ["lea rsp, [rsp + 80]"]
);

/// Ends of the instructions that refer to a word of the region, and of the whole.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Table {
    mask: u64,
    slots: u64,
    state: u64,
    host: u64,
    agent: u64,
    len: u64,
}

macro_rules! code {
    ($code:literal, $table:literal) => {{
        unsafe extern "C" {
            #[link_name = $code]
            static CODE: u8;
            #[link_name = $table]
            static TABLE: Table;
        }
        // SAFETY: six constant words, aligned, assembled above in the order of `Table`.
        let table = unsafe { TABLE };
        let len = usize::try_from(table.len).unwrap_or(0);
        // SAFETY: `len` bytes that are assembled above, constant.
        (unsafe { std::slice::from_raw_parts(&raw const CODE, len) }, table)
    }};
}

/// The stub as bytes of the region's code.
#[derive(Clone, Debug)]
pub(crate) struct Stub {
    pub(crate) bytes: Vec<u8>,
    /// Offset in `bytes` of the way in for threads that keep their thread pointer at `fs:0`, and of the one for others.
    pub(crate) by_fs: u64,
    pub(crate) by_base: u64,
}

/// Whether this processor has `lahf` in 64-bit mode (CPUID 8000_0001h, ecx bit 0), which a stub keeps flags by.
pub(crate) fn is_possible() -> bool {
    let leaf = |n| core::arch::x86_64::__cpuid(n);
    leaf(0x8000_0000).eax > 0x8000_0000 && leaf(0x8000_0001).ecx & 1 != 0
}

/// Bytes of the stub for a handler, wherever it lies.
pub(crate) fn length(plan: &StubPlan) -> usize {
    let [fs, base] = entries(plan.registers).map(|(code, _)| code.len() + plan.code.len());
    fs.next_multiple_of(16) + base
}

fn entries(registers: bool) -> [(&'static [u8], Table); 2] {
    if registers {
        [
            code!("trocar_stub_fs_registers", "trocar_stub_fs_registers_table"),
            code!("trocar_stub_base_registers", "trocar_stub_base_registers_table"),
        ]
    } else {
        [code!("trocar_stub_fs", "trocar_stub_fs_table"), code!("trocar_stub_base", "trocar_stub_base_table")]
    }
}

/// The stub at its place in a region. `None` where the region is too large for its references: then there is none.
pub(crate) fn make(plan: &StubPlan, region: &Region) -> Option<Stub> {
    let control = |offset: usize| region.private + offset as u64;
    let head = |offset: usize| region.shared + offset as u64;
    let mut bytes = Vec::with_capacity(length(plan));
    let mut starts = [0; 2];
    for (start, (code, table)) in starts.iter_mut().zip(entries(plan.registers)) {
        bytes.resize(bytes.len().next_multiple_of(16), 0xcc);
        *start = bytes.len() as u64;
        // Each reference: where its instruction ends, how far before that its displacement lies, and the word.
        let references = [
            (table.mask, 4, control(offset_of!(Control, table_mask))),
            (table.slots, 4, control(offset_of!(Control, table))),
            (table.state, 4, head(offset_of!(SharedHead, state))),
            // One byte of immediate follows it; of the host's word the byte that holds `OWNER_DIED`.
            (table.host, 5, head(offset_of!(SharedHead, host)) + 3),
            (table.agent, 4, control(offset_of!(Control, hit_entry))),
        ];
        let mut code = code.to_vec();
        for (end, back, to) in references {
            let from = region.stub + *start + end;
            let distance = i32::try_from(to.cast_signed() - from.cast_signed()).ok()?;
            let at = usize::try_from(end - back).ok()?;
            code.get_mut(at..at + 4)?.copy_from_slice(&distance.to_le_bytes());
        }
        bytes.extend(code);
        bytes.extend(&plan.code);
    }
    Some(Stub { bytes, by_fs: starts[0], by_base: starts[1] })
}

const _: () = assert!(ProbeState::Armed as u32 == 0);
const _: () = assert!(trocar_abi::shared::OWNER_DIED == 0x40 << 24);

#[cfg(test)]
mod tests {
    use super::{StubPlan, entries, length, make};
    use crate::region::Region;
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    use trocar_abi::control::Control;
    use trocar_abi::shared::SharedHead;

    fn region() -> Region {
        Region {
            module: 0,
            stub: 0x1000,
            text: 0x2000,
            data: 0x10_0000,
            private: 0x11_0000,
            heap: 0x12_0000,
            stack_top: 0x20_0000,
            contexts: 0x20_0000,
            shared: 0x80_0000,
            len: 0x90_0000,
        }
    }

    #[test]
    fn every_reference_leads_to_its_word() {
        for registers in [false, true] {
            let plan = StubPlan { code: vec![0xc3], registers, fuel: 1 };
            let (stub, region) = (make(&plan, &region()).unwrap(), region());
            assert_eq!(stub.bytes.len(), length(&plan));
            for start in [stub.by_fs, stub.by_base] {
                let code = &stub.bytes[usize::try_from(start).unwrap()..];
                let decoder = Decoder::with_ip(64, code, region.stub + start, DecoderOptions::NONE);
                let words: Vec<u64> = decoder
                    .into_iter()
                    .take_while(|i| i.mnemonic() != Mnemonic::Int3)
                    .filter(|i| i.is_ip_rel_memory_operand())
                    .map(|i| i.ip_rel_memory_address())
                    .collect();
                let control = |offset: usize| region.private + offset as u64;
                let expected = [
                    control(std::mem::offset_of!(Control, table_mask)),
                    control(std::mem::offset_of!(Control, table)),
                    region.shared + std::mem::offset_of!(SharedHead, state) as u64,
                    region.shared + std::mem::offset_of!(SharedHead, host) as u64 + 3,
                    control(std::mem::offset_of!(Control, hit_entry)),
                ];
                assert_eq!(words, expected);
            }
        }
    }

    #[test]
    fn a_region_that_is_too_large_has_no_stub() {
        let mut far = region();
        far.shared = 1 << 32;
        assert!(make(&StubPlan { code: vec![0xc3], registers: false, fuel: 1 }, &far).is_none());
    }

    #[test]
    fn no_clock_is_read_and_the_kernel_is_not_asked() {
        let mut known = 0;
        for (code, _) in entries(true).into_iter().chain(entries(false)) {
            for instruction in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
                let what = instruction.mnemonic();
                assert!(
                    !matches!(what, Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Syscall),
                    "{instruction}"
                );
                // Nor is anything locked: each word is its context's own.
                assert!(!instruction.has_lock_prefix() && what != Mnemonic::Xchg, "{instruction}");
                known += usize::from(what == Mnemonic::Lahf);
            }
        }
        assert_eq!(known, 4, "each of the four ways in was decoded");
    }

    #[test]
    fn what_is_pushed_is_popped() {
        for (code, _) in entries(true).into_iter().chain(entries(false)) {
            // Both ways out leave the stack as it was; the one to the agent has pushed nothing for the handler.
            let mut depth = 0_i64;
            let mut at_branch = None;
            for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter() {
                match instruction.mnemonic() {
                    Mnemonic::Jne => at_branch = at_branch.or(Some(depth)),
                    Mnemonic::Ret => {
                        assert_eq!(depth, 0);
                        depth = at_branch.unwrap();
                    }
                    Mnemonic::Jmp => {
                        assert_eq!(depth, 0);
                        break;
                    }
                    Mnemonic::Lea => depth -= 80,
                    Mnemonic::Call => {}
                    _ => depth -= i64::from(instruction.stack_pointer_increment()),
                }
            }
        }
    }
}
