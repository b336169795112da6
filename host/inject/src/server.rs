//! A borrowed thread that makes system calls by the dozen: it runs a loop of ours that takes them from a mailbox.
//!
//! A system call through ptrace alone is two stops and some twenty microseconds; through the mailbox it is two. That
//! matters where every other thread stands still meanwhile. The loop lies on a page that is writable first and
//! executable afterwards, never both, and is gone when the server ends.

use std::time::{Duration, Instant};

use trocar_abi::PAGE;
use trocar_target::{Failure, FailureKind};

use crate::borrow::Borrowed;
use crate::load::lost;
use crate::memory::{RemoteAddress, RemoteMemory};
use crate::stop::{gone, is_gone, pause};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The loop; rdi is the mailbox. It uses no stack.
///
/// ```text
/// mailbox   0  number of the request     written by us, last
///           8  number of the last answer written by the loop, last
///          16  system call, and from 24 its six arguments
///          72  the kernel's answer
/// ```
const LOOP: &[u8] = &[
    0xf3, 0x90, //                         0: pause
    0x48, 0x8b, 0x07, //                   2: mov rax, [rdi]
    0x48, 0x3b, 0x47, 0x08, //             5: cmp rax, [rdi + 8]
    0x74, 0xf5, //                         9: je 0
    0x49, 0x89, 0xfc, //                  11: mov r12, rdi
    0x48, 0x8b, 0x47, 0x10, //            14: mov rax, [rdi + 16]
    0x48, 0x8b, 0x77, 0x20, //            18: mov rsi, [rdi + 32]
    0x48, 0x8b, 0x57, 0x28, //            22: mov rdx, [rdi + 40]
    0x4c, 0x8b, 0x57, 0x30, //            26: mov r10, [rdi + 48]
    0x4c, 0x8b, 0x47, 0x38, //            30: mov r8, [rdi + 56]
    0x4c, 0x8b, 0x4f, 0x40, //            34: mov r9, [rdi + 64]
    0x48, 0x8b, 0x7f, 0x18, //            38: mov rdi, [rdi + 24]
    0x0f, 0x05, //                        42: syscall
    0x4c, 0x89, 0xe7, //                  44: mov rdi, r12
    0x48, 0x89, 0x47, 0x48, //            47: mov [rdi + 72], rax
    0x48, 0x8b, 0x07, //                  51: mov rax, [rdi]
    0x48, 0x89, 0x47, 0x08, //            54: mov [rdi + 8], rax
    0xeb, 0xc4, //                        58: jmp 0
];
const _: () = assert!(LOOP.len() == 60);

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
        let pid = self.borrowed.pid();
        self.requests += 1;
        let mut letter = number.to_le_bytes().to_vec();
        letter.extend(arguments.iter().flat_map(|a| a.to_le_bytes()));
        self.memory.write(self.mailbox.plus(16), &letter).map_err(|e| lost(pid, &e))?;
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
                return Err(Failure::new(
                    FailureKind::Bug,
                    format!("system call {number} in {pid} took too long"),
                ));
            }
        }
        let answer = self.memory.word(self.mailbox.plus(72)).map_err(|e| lost(pid, &e))?;
        crate::borrow::checked(pid, number, answer)
    }

    /// Ends the loop and takes its page away. The thread is still borrowed.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.borrowed.stop_again()?;
        self.borrowed.system_call(libc::SYS_munmap, [self.page.0, 2 * PAGE, 0, 0, 0, 0]).map(|_| ())
    }
}
