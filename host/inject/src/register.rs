//! Where a user's sessions are written down, so that all of them can be switched off at once, and how one is.
//!
//! One empty file for each session, whose name is the target's process id and the address of the shared memory there, and
//! what tells it from a later session at the same place; it goes with the session, whose host holds a lock on it. A name is
//! only believed as far as that memory begins as ours does, so one that a killed host has left does no harm; it is removed
//! when it is met. Nothing is asked of the hosts: they may hang, and the probes stop all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use trocar_abi::control::{Control, MAGIC};
use trocar_abi::shared::{self, ProbeState, SharedHead};
use trocar_target::{Failure, FailureKind};

use crate::memory::{RemoteAddress, RemoteMemory};
use crate::plain::from_bytes;

/// Most gates of a session that are closed: one for each module with sites.
const GATES_MAX: u32 = 1 << 16;

/// How long switching off waits for a command that is attaching to the process, or leaving it.
const LOCK_PATIENCE: Duration = Duration::from_millis(5);

/// Most threads that switch sessions off: as many processes whose memory hangs hold up nobody else.
const WORKERS: usize = 32;

/// How long nothing may be heard of the sessions that are left. A process whose memory lies in a file of a file system that
/// hangs (FUSE, NFS) holds whoever reads it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session that is written down until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    path: PathBuf,
    /// Locked as long as the session lives.
    _file: File,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // If it stays, whoever meets it finds no such session and removes it.
        drop(fs::remove_file(&self.path));
    }
}

/// The folders, the best first. All are looked through: a session's host may have another environment than we.
fn folders() -> Vec<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    let mut all: Vec<PathBuf> = given
        .into_iter()
        .chain([PathBuf::from(format!("/run/user/{user}"))])
        .map(|p| p.join("trocar"))
        .collect();
    all.push(PathBuf::from(format!("/tmp/trocar-{user}")));
    all.dedup();
    all
}

/// Whether it is a folder of ours in which nobody else can write.
fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::getuid().as_raw() && m.mode() & 0o022 == 0)
}

/// Writes a session down.
pub(crate) fn register(pid: i32, shared: u64) -> Result<Registered, Failure> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{pid}-{shared:x}-{}-{number}", std::process::id());
    for folder in folders() {
        // It may be there already, and where it is not it may not be makeable: the file tells.
        drop(DirBuilder::new().mode(0o700).create(&folder));
        let path = folder.join(&name);
        // A new one: what a link in a folder of somebody else's would lead to is not touched.
        let file = if is_ours(&folder) { File::create_new(&path).ok() } else { None };
        if let Some(file) = file.filter(|f| flock(f, FlockOperation::NonBlockingLockExclusive).is_ok()) {
            return Ok(Registered { path, _file: file });
        }
    }
    Err(Failure::new(
        FailureKind::NotPermitted,
        "there is no folder to write sessions down in, so that `trocar off` can find them",
    )
    .hint("set XDG_RUNTIME_DIR to a folder of yours"))
}

/// A session that was switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchedOff {
    /// The target.
    pub pid: i32,
    /// Gates that were closed.
    pub gates: usize,
    /// Nanoseconds from the look at its memory to the last gate.
    pub off_ns: u64,
}

/// Switches off every session of this user, or those in `only` these processes: from now on no probe of theirs runs. Their
/// hosts find out and leave.
///
/// # Errors
/// For each session that could not be reached, with what was in the way; all others are off.
pub fn switch_off_all(only: Option<&[i32]>) -> Vec<Result<SwitchedOff, Failure>> {
    let mut sessions = Vec::new();
    for folder in folders().iter().filter(|f| is_ours(f)) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((pid, shared)) = name.to_str().and_then(place) else { continue };
            if only.is_none_or(|pids| pids.contains(&pid)) {
                sessions.push(Written { path: entry.path(), pid, shared });
            }
        }
    }
    each_by_itself(sessions, PATIENCE, |session| match switch_off(session.pid, session.shared) {
        Ok(Some(off)) => Some(Ok(off)),
        Ok(None) => {
            remove_abandoned(&session.path);
            None
        }
        Err(error) => Some(Err(Failure::new(
            FailureKind::NotPermitted,
            format!("the probe in process {} cannot be switched off: {error}", session.pid),
        )
        .hint("as the user who put it there, or as root: trocar off"))),
    })
}

/// A session as it is written down.
#[derive(Clone, Debug)]
struct Written {
    path: PathBuf,
    pid: i32,
    shared: u64,
}

/// What became of a session; nothing if there was none.
type Fate = Option<Result<SwitchedOff, Failure>>;

/// Switches all of them off, in threads of their own, so that one whose memory hangs keeps nobody waiting but us, and us
/// only for so long.
fn each_by_itself(
    sessions: Vec<Written>,
    patience: Duration,
    off: fn(&Written) -> Fate,
) -> Vec<Result<SwitchedOff, Failure>> {
    let (tell, told) = channel();
    let mut waiting: Vec<Option<Written>> = sessions.iter().cloned().map(Some).collect();
    let workers = sessions.len().min(WORKERS);
    let work = Arc::new(Mutex::new(sessions.into_iter().enumerate()));
    let job = move |work: &Mutex<_>, tell: &Sender<(usize, Fate)>| {
        let next = || Iterator::next(&mut *work.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some((number, session)) = next() {
            // Nobody listens any more: the command has ended.
            drop(tell.send((number, off(&session))));
        }
    };
    let mut spawned = 0;
    for _ in 0..workers {
        let (work, tell) = (Arc::clone(&work), tell.clone());
        let thread = std::thread::Builder::new().spawn(move || job(&work, &tell));
        spawned += usize::from(thread.is_ok());
    }
    if spawned == 0 {
        // No thread is to be had: one after the other is better than none.
        job(&work, &tell);
    }
    drop(tell);
    let mut done = Vec::new();
    while let Ok((number, fate)) = told.recv_timeout(patience) {
        waiting.get_mut(number).map(Option::take);
        done.extend(fate);
    }
    done.extend(waiting.into_iter().flatten().map(|session| {
        Err(Failure::new(
            FailureKind::NotPermitted,
            format!("the memory of process {} does not answer: its probe may still run", session.pid),
        )
        .hint("a file system that it has mapped hangs (FUSE, NFS); end that one, then: trocar off"))
    }));
    done
}

/// Removes what a killed host has left; not what a session that is about to begin or to end still holds.
fn remove_abandoned(path: &Path) {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    if file.is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok()) {
        // If it stays, the next one removes it.
        drop(fs::remove_file(path));
    }
}

fn place(name: &str) -> Option<(i32, u64)> {
    let mut parts = name.split('-');
    let (pid, shared) = (parts.next()?, parts.next()?);
    let ours = parts.count() == 2;
    Some((pid.parse().ok()?, u64::from_str_radix(shared, 16).ok()?)).filter(|_| ours)
}

/// Switches one session off; `None` if there is no such session (any more). First the gates, so that the agent is not
/// entered; then the state, which every hit of every thread looks at, and which makes the host leave.
///
/// While we write, nobody unmaps: that is done under the lock that we take. Its holder may hang; then we go on without it,
/// unless all gates are closed, as they are before anything is unmapped.
fn switch_off(pid: i32, shared: u64) -> io::Result<Option<SwitchedOff>> {
    let began = Instant::now();
    let memory = match RemoteMemory::open(pid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let lock = memory.lock_within(pid, LOCK_PATIENCE);
    let at = |field: usize| RemoteAddress(shared).plus(field as u64);
    let is_there = || memory.word(at(offset_of!(SharedHead, magic))).ok() == Some(shared::MAGIC);
    if !is_there() {
        return Ok(None);
    }
    let control = RemoteAddress(memory.word(at(offset_of!(SharedHead, control)))?);
    let bytes = memory.bytes(control, size_of::<Control>())?;
    // What the target's memory says can only make us write a zero into that same memory.
    let control = from_bytes::<Control>(&bytes).filter(|c| c.magic == MAGIC && c.gate_count <= GATES_MAX);
    let gates = control.map_or_else(Vec::new, |c| {
        memory.some(RemoteAddress(c.gates), usize::try_from(c.gate_count).unwrap_or(0) * 8)
    });
    let gates: Vec<_> =
        gates.as_chunks::<8>().0.iter().map(|g| RemoteAddress(u64::from_le_bytes(*g))).collect();
    let is_closed = |gate: &RemoteAddress| memory.word(*gate).is_ok_and(|word| word == 0);
    let mut closed = 0;
    if lock.is_ok() || !gates.iter().all(is_closed) {
        let off = (ProbeState::Off as u32).to_le_bytes();
        let closing = gates.iter().try_for_each(|gate| {
            closed += 1;
            memory.write_word(*gate, 0)
        });
        let written = closing.and_then(|()| memory.write(at(offset_of!(SharedHead, state)), &off));
        // It has gone meanwhile, and with it the probe.
        if written.is_err() && is_there() {
            written?;
        }
    }
    let off_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Some(SwitchedOff { pid, gates: closed, off_ns }))
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::time::Duration;

    use rustix::fs::{FlockOperation, flock};
    use trocar_abi::control::{Control, MAGIC};
    use trocar_abi::shared::{self, ProbeState, SharedHead};

    use super::{SwitchedOff, Written, each_by_itself, place, remove_abandoned, switch_off};
    use crate::memory::RemoteMemory;

    /// A session's memory in this process. The kernel writes it through `/proc/PID/mem`, hence atomics.
    struct Session {
        head: [AtomicU64; size_of::<SharedHead>() / 8],
        control: [AtomicU64; size_of::<Control>() / 8],
        gates: Box<[AtomicU64]>,
        list: Box<[AtomicU64]>,
    }

    fn address(words: &[AtomicU64]) -> u64 {
        words.as_ptr().addr() as u64
    }

    /// Puts 32 bits into the half of a word.
    fn put(words: &[AtomicU64], field: usize, value: u32) {
        words[field / 8].fetch_or(u64::from(value) << (field % 8 * 8), SeqCst);
    }

    impl Session {
        fn new(gates: &[u64]) -> Box<Self> {
            let session = Box::new(Self {
                head: [const { AtomicU64::new(0) }; _],
                control: [const { AtomicU64::new(0) }; _],
                gates: gates.iter().map(|word| AtomicU64::new(*word)).collect(),
                list: gates.iter().map(|_| AtomicU64::new(0)).collect(),
            });
            for (to, gate) in session.list.iter().zip(&session.gates) {
                to.store(address(std::slice::from_ref(gate)), SeqCst);
            }
            let (head, control) = (&session.head, &session.control);
            head[offset_of!(SharedHead, magic) / 8].store(shared::MAGIC, SeqCst);
            head[offset_of!(SharedHead, control) / 8].store(address(control), SeqCst);
            put(head, offset_of!(SharedHead, state), ProbeState::Armed as u32);
            control[offset_of!(Control, magic) / 8].store(MAGIC, SeqCst);
            control[offset_of!(Control, gates) / 8].store(address(&session.list), SeqCst);
            put(control, offset_of!(Control, gate_count), u32::try_from(gates.len()).unwrap());
            session
        }

        fn off(&self) -> Option<usize> {
            switch_off(own(), address(&self.head)).unwrap().map(|off| off.gates)
        }

        fn state(&self) -> u32 {
            let field = offset_of!(SharedHead, state);
            let half = self.head[field / 8].load(SeqCst) >> (field % 8 * 8);
            u32::try_from(half & 0xffff_ffff).unwrap()
        }

        fn gates(&self) -> Vec<u64> {
            self.gates.iter().map(|gate| gate.load(SeqCst)).collect()
        }
    }

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    // One test, because all of it is about the one lock of this process.
    #[test]
    fn off_writes_under_the_lock_and_without_it_only_where_a_gate_is_open() {
        let memory = RemoteMemory::open(own()).unwrap();
        let (off, armed) = (ProbeState::Off as u32, ProbeState::Armed as u32);
        let session = Session::new(&[1, 1, 0]);
        assert_eq!(session.off(), Some(3));
        assert_eq!((session.gates(), session.state()), (vec![0, 0, 0], off));
        // Gates that are closed already, as before they were opened the first time: with the lock it is off for good.
        let session = Session::new(&[0, 0]);
        assert_eq!((session.off(), session.state()), (Some(2), off));

        let lock = memory.lock(own()).unwrap();
        // Its host is leaving: all gates are closed, and the memory may go at any moment.
        let session = Session::new(&[0, 0]);
        assert_eq!((session.off(), session.gates(), session.state()), (Some(0), vec![0, 0], armed));
        // Whoever holds the lock may hang: a gate that is open is closed all the same.
        let session = Session::new(&[0, 1]);
        assert_eq!((session.off(), session.gates(), session.state()), (Some(2), vec![0, 0], off));
        drop(lock);

        // Something else lies where a session was: nothing is written.
        let session = Session::new(&[1]);
        session.head[offset_of!(SharedHead, magic) / 8].store(7, SeqCst);
        assert_eq!((session.off(), session.gates(), session.state()), (None, vec![1], armed));
    }

    #[test]
    fn what_a_session_still_holds_is_not_removed() {
        let path = std::env::temp_dir().join(format!("trocar-register-{}", own()));
        let held = std::fs::File::create_new(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        remove_abandoned(&path);
        assert!(path.exists());
        drop(held);
        remove_abandoned(&path);
        assert!(!path.exists());
    }

    #[test]
    fn a_session_that_hangs_keeps_no_other_from_being_switched_off() {
        let written = |pid| Written { path: "/nowhere".into(), pid, shared: 1 };
        let off = |session: &Written| match session.pid {
            7 => loop {
                std::thread::park();
            },
            8 => None,
            pid => Some(Ok(SwitchedOff { pid, gates: 1, off_ns: 1 })),
        };
        let sessions = [7, 8].into_iter().chain(100..200).map(written).collect();
        let all = each_by_itself(sessions, Duration::from_millis(500), off);
        let mut done: Vec<i32> = all.iter().flatten().map(|off| off.pid).collect();
        done.sort_unstable();
        assert_eq!(done, (100..200).collect::<Vec<_>>());
        let failed: Vec<String> =
            all.iter().filter_map(|one| one.as_ref().err()).map(ToString::to_string).collect();
        assert!(failed.len() == 1 && failed[0].contains("process 7 does not answer"), "{failed:?}");
    }

    #[test]
    fn a_name_says_which_process_and_where_in_it() {
        assert_eq!(place("812-7f00deadb000-900-0"), Some((812, 0x7f00_dead_b000)));
        for other in ["", "812", "812-", "-812-1-1", "x-1-1-1", "812-zz-1-1", "812-1-2", "99999999999-1-1-1"]
        {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
