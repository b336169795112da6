//! The sign of life that every hit looks at: a robust futex word in the shared memory.
//!
//! A thread registers the word in its robust list (`set_robust_list(2)`). When that thread ends in any way, `kill -9`
//! included, the kernel sets `FUTEX_OWNER_DIED` in it, and hits lose themselves as `host_gone` from then on. No clock
//! is read on the hit path, and nobody has to send heartbeats.
#![expect(unsafe_code, reason = "the robust list is an interface of raw pointers to the kernel")]

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// `struct robust_list_head` and one entry (`linux/futex.h`).
#[repr(C)]
struct RobustList {
    first: *mut Entry,
    futex_offset: isize,
    pending: *mut Entry,
}

#[repr(C)]
struct Entry {
    next: *mut core::ffi::c_void,
}

/// Keeps the word alive until it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The address of the word, to be handed to the keeper's thread.
struct Word(*mut u32);
// SAFETY: only the keeper's thread uses it.
unsafe impl Send for Word {}

impl Keeper {
    /// Registers `word`.
    ///
    /// # Safety
    /// `word` is aligned and stays mapped until the keeper is dropped.
    pub(crate) unsafe fn new(word: *mut u32) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let word = Word(word);
        let thread = std::thread::Builder::new().name("trocar-keeper".to_owned()).spawn(move || {
            keep(word, &ready, &stopped);
        })?;
        is_ready.recv().map_err(|_| io::Error::other("the keeper's thread ended"))??;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn keep(word: Word, ready: &mpsc::Sender<io::Result<()>>, stopped: &mpsc::Receiver<()>) {
    let Word(word) = word;
    let mut entry = Entry { next: std::ptr::null_mut() };
    let entry_at = &raw mut entry;
    let offset = (word as isize).wrapping_sub(entry_at as isize);
    let mut list = RobustList { first: entry_at, futex_offset: offset, pending: std::ptr::null_mut() };
    // The list is a circle that ends at its head. The kernel reads it, which the compiler cannot know: volatile.
    let head = (&raw mut list).cast();
    // SAFETY: `entry` lives on this stack and nothing else refers to it yet.
    unsafe { entry_at.write_volatile(Entry { next: head }) };
    // SAFETY: takes nothing.
    let tid = unsafe { libc::gettid() };
    // SAFETY: `Keeper::new`'s caller keeps the word mapped and aligned.
    let futex = unsafe { std::sync::atomic::AtomicU32::from_ptr(word) };
    // SAFETY: list and entry live on this stack until the end of the thread's work, and are unregistered below. The
    // list that libc registered for this thread is replaced: the thread takes no robust mutex.
    let result = unsafe { libc::syscall(libc::SYS_set_robust_list, &raw mut list, size_of::<RobustList>()) };
    let answer = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let failed = answer.is_err();
    // Not before the kernel knows of the word: killed in between, a host would be taken for alive for ever, and what it had
    // put into the target would stay.
    if !failed {
        futex.store(tid.cast_unsigned(), std::sync::atomic::Ordering::SeqCst);
    }
    if ready.send(answer).is_err() || failed {
        return;
    }
    // Woken by the keeper's end; nothing is ever sent.
    let _ = stopped.recv();
    // Whatever of the session is left in the target has no host from now on.
    futex.store(0, std::sync::atomic::Ordering::SeqCst);
    // SAFETY: no list takes the place of ours before the stack goes.
    unsafe {
        libc::syscall(libc::SYS_set_robust_list, std::ptr::null_mut::<RobustList>(), size_of::<RobustList>())
    };
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}
