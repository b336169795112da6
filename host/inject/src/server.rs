//! A borrowed thread that makes system calls by the dozen: it runs a loop of ours that takes them from a mailbox.
//!
//! A system call through ptrace alone is two stops and some twenty microseconds; through the mailbox it is two. That
//! matters where every other thread stands still meanwhile. The loop lies on a page that is writable first and
//! executable afterwards, never both, and is gone when the server ends.

use std::time::{Duration, Instant};

use trocar_abi::PAGE;
use trocar_target::{Failure, FailureKind};

use crate::borrow::{Borrowed, checked};
use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::stop::{gone, is_gone, pause};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The loop; rdi is the mailbox. It uses no stack.
///
/// ```text
/// mailbox   0  number of the letter      written by us, last
///           8  number of the last answer written by the loop, last
///          16  number of system calls in the letter, at least one
///          64  for each: the call, its six arguments, and the kernel's answer
/// ```
const LOOP: &[u8] = &[
    0xf3, 0x90, //                         0: pause
    0x48, 0x8b, 0x07, //                   2: mov rax, [rdi]
    0x48, 0x3b, 0x47, 0x08, //             5: cmp rax, [rdi + 8]
    0x74, 0xf5, //                         9: je 0
    0x49, 0x89, 0xfc, //                  11: mov r12, rdi
    0x4c, 0x8b, 0x6f, 0x10, //            14: mov r13, [rdi + 16]
    0x4c, 0x8d, 0x77, 0x40, //            18: lea r14, [rdi + 64]
    0x49, 0x8b, 0x06, //                  22: mov rax, [r14]
    0x49, 0x8b, 0x7e, 0x08, //            25: mov rdi, [r14 + 8]
    0x49, 0x8b, 0x76, 0x10, //            29: mov rsi, [r14 + 16]
    0x49, 0x8b, 0x56, 0x18, //            33: mov rdx, [r14 + 24]
    0x4d, 0x8b, 0x56, 0x20, //            37: mov r10, [r14 + 32]
    0x4d, 0x8b, 0x46, 0x28, //            41: mov r8, [r14 + 40]
    0x4d, 0x8b, 0x4e, 0x30, //            45: mov r9, [r14 + 48]
    0x0f, 0x05, //                        49: syscall
    0x49, 0x89, 0x46, 0x38, //            51: mov [r14 + 56], rax
    0x49, 0x83, 0xc6, 0x40, //            55: add r14, 64
    0x49, 0xff, 0xcd, //                  59: dec r13
    0x75, 0xd6, //                        62: jne 22
    0x4c, 0x89, 0xe7, //                  64: mov rdi, r12
    0x48, 0x8b, 0x07, //                  67: mov rax, [rdi]
    0x48, 0x89, 0x47, 0x08, //            70: mov [rdi + 8], rax
    0xeb, 0xb4, //                        74: jmp 0
];
const _: () = assert!(LOOP.len() == 76);

/// A system call and its arguments.
pub(crate) type Call = (libc::c_long, [u64; 6]);
/// Offset of the first call in the mailbox, and bytes of each.
const CALLS: u64 = 64;
/// Most calls of one letter: what fits on the mailbox's page.
const CALLS_MAX: usize = 63;

/// The thread, while it serves.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    borrowed: &'a mut Borrowed,
    memory: &'a RemoteMemory,
    page: RemoteAddress,
    mailbox: RemoteAddress,
    requests: u64,
}

impl<'a> Server<'a> {
    /// Starts the loop on a borrowed thread.
    pub(crate) fn start(borrowed: &'a mut Borrowed, memory: &'a RemoteMemory) -> Result<Self, Failure> {
        let (rw, rx) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page =
            borrowed.system_call(libc::SYS_mmap, [0, 2 * PAGE, rw as u64, kind as u64, u64::MAX, 0])?;
        memory.write(RemoteAddress(page), LOOP).map_err(|e| lost(borrowed.pid(), &e))?;
        if let Err(failure) = borrowed.system_call(libc::SYS_mprotect, [page, PAGE, rx as u64, 0, 0, 0]) {
            borrowed.system_call(libc::SYS_munmap, [page, 2 * PAGE, 0, 0, 0, 0])?;
            return Err(failure);
        }
        let (page, mailbox) = (RemoteAddress(page), RemoteAddress(page + PAGE));
        borrowed.start(page, mailbox)?;
        Ok(Self { borrowed, memory, page, mailbox, requests: 0 })
    }

    /// Makes one system call. The kernel's answer, or its error.
    pub(crate) fn call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> Result<u64, Failure> {
        let answers = self.calls(&[(number, arguments)])?;
        answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(Failure::new(FailureKind::Bug, "a letter without an answer")))
    }

    /// Makes several system calls, one after another whatever becomes of each, by one letter. The kernel's answers.
    pub(crate) fn calls(&mut self, calls: &[Call]) -> Result<Vec<Result<u64, Failure>>, Failure> {
        let pid = self.borrowed.pid();
        let Some(calls) = calls.get(..calls.len().min(CALLS_MAX)).filter(|c| !c.is_empty()) else {
            return Ok(Vec::new());
        };
        self.requests += 1;
        let mut letter = Vec::with_capacity(calls.len() * 64);
        for (number, arguments) in calls {
            letter.extend(number.to_le_bytes());
            letter.extend(arguments.iter().flat_map(|a| a.to_le_bytes()));
            letter.extend([0; 8]);
        }
        self.memory.write(self.mailbox.plus(CALLS), &letter).map_err(|e| lost(pid, &e))?;
        self.memory.write_word(self.mailbox.plus(16), calls.len() as u64).map_err(|e| lost(pid, &e))?;
        self.memory.write_word(self.mailbox, self.requests).map_err(|e| lost(pid, &e))?;
        let until = Instant::now() + DEADLINE;
        let mut rounds = 0;
        while self.memory.word(self.mailbox.plus(8)).map_err(|e| lost(pid, &e))? != self.requests {
            self.borrowed.look_after("a system call")?;
            if rounds > 128 && is_gone(pid, self.borrowed.tid()) {
                return Err(gone(pid));
            }
            pause(rounds);
            rounds += 1;
            if Instant::now() > until {
                return Err(Failure::new(FailureKind::Bug, format!("system calls in {pid} took too long")));
            }
        }
        let bytes = self.memory.bytes(self.mailbox.plus(CALLS), letter.len()).map_err(|e| lost(pid, &e))?;
        let answers = bytes.as_chunks::<8>().0.iter().skip(7).step_by(8).map(|b| u64::from_le_bytes(*b));
        Ok(calls.iter().zip(answers).map(|((number, _), answer)| checked(pid, *number, answer)).collect())
    }

    /// Ends the loop and takes its page away. The thread is still borrowed.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.borrowed.stop_again()?;
        self.borrowed.system_call(libc::SYS_munmap, [self.page.0, 2 * PAGE, 0, 0, 0, 0]).map(|_| ())
    }
}
