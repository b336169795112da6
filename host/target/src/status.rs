//! `/proc/PID/stat` and `/proc/PID/status` as data: pure parsers over text that the target can influence.
//!
//! The name of a process may hold spaces, parentheses and newlines, so that `stat` is read from its last
//! closing parenthesis. Format: proc_pid_stat(5), proc_pid_status(5).

/// The flag of a kernel thread in field 9 of `stat` (`PF_KTHREAD`, include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What `stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Name of the thread, raw.
    pub name: String,
    /// State letter.
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
    /// Time of its start in clock ticks after boot.
    pub start_time: u64,
}

impl Stat {
    /// Parses the line; `None` when it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        // Field 3 of the manual page is the first one after the name.
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let flags: u64 = fields.nth(4)?.parse().ok()?;
        let start_time = fields.nth(12)?.parse().ok()?;
        Some(Self { name, state, parent, kernel_thread: flags & KERNEL_THREAD != 0, start_time })
    }

    /// Whether the process has ended and only its entry is left.
    pub const fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A set of signals as the kernel prints it: bit `n - 1` is signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Whether signal `number` (from 1 to 64) is in the set.
    #[must_use]
    pub const fn contains(self, number: u32) -> bool {
        number >= 1 && number <= 64 && self.0 >> (number - 1) & 1 == 1
    }

    /// Whether no signal is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The signals of a thread. `caught` and `ignored` belong to the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Blocked by this thread (`SigBlk`).
    pub blocked: SignalSet,
    /// Pending for this thread (`SigPnd`).
    pub pending: SignalSet,
    /// Pending for the process (`ShdPnd`).
    pub process_pending: SignalSet,
    /// With a handler (`SigCgt`).
    pub caught: SignalSet,
    /// Ignored (`SigIgn`).
    pub ignored: SignalSet,
}

/// What the kernel filters of a thread's system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Nothing.
    #[default]
    Off,
    /// All but read, write, exit and sigreturn.
    Strict,
    /// What its filters say.
    Filter,
}

/// What `status` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Process of this thread.
    pub process: i32,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Who traces it; zero for nobody.
    pub tracer: i32,
    /// Its id in every pid namespace from ours to its own; empty on kernels before 4.1.
    pub namespace_ids: Vec<i32>,
    /// Filter of system calls.
    pub seccomp: Seccomp,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Whether a shadow stack is on (`x86_Thread_features`).
    pub shadow_stack: bool,
    /// Effective capabilities.
    pub capabilities: u64,
    /// Signals.
    pub signals: Signals,
}

impl Status {
    /// Parses the file. Lines that are missing or not understood keep their default, as older kernels
    /// have fewer of them; the kernel escapes newlines in the one line that a process controls (`Name`).
    pub fn parse(bytes: &[u8]) -> Self {
        let mut status = Self::default();
        for line in bytes.split(|&b| b == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((key, value)) = line.split_once(':') else { continue };
            status.set(key, value.trim());
        }
        status
    }

    fn set(&mut self, key: &str, value: &str) {
        let mut words = value.split_ascii_whitespace();
        match key {
            "Tgid" => self.process = number(value),
            "Uid" => {
                self.uid = words.next().map_or(0, number);
                self.euid = words.next().map_or(0, number);
            }
            "TracerPid" => self.tracer = number(value),
            "NSpid" => self.namespace_ids = words.filter_map(|w| w.parse().ok()).take(64).collect(),
            "Seccomp" => {
                self.seccomp = match value {
                    "0" => Seccomp::Off,
                    "1" => Seccomp::Strict,
                    _ => Seccomp::Filter,
                }
            }
            "NoNewPrivs" => self.no_new_privs = value == "1",
            "x86_Thread_features" => self.shadow_stack = words.any(|w| w == "shstk"),
            "CapEff" => self.capabilities = mask(value),
            "SigBlk" => self.signals.blocked = SignalSet(mask(value)),
            "SigPnd" => self.signals.pending = SignalSet(mask(value)),
            "ShdPnd" => self.signals.process_pending = SignalSet(mask(value)),
            "SigCgt" => self.signals.caught = SignalSet(mask(value)),
            "SigIgn" => self.signals.ignored = SignalSet(mask(value)),
            _ => {}
        }
    }
}

fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

fn mask(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = " S 7 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = Stat::parse(format!("42 (a) S 1 (b){TAIL}").as_bytes()).unwrap();
        assert_eq!(stat.name, "a) S 1 (b");
        assert_eq!((stat.state, stat.parent, stat.start_time), ('S', 7, 4711));
        assert!(!stat.kernel_thread && !stat.ended());
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        let line = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0";
        assert!(Stat::parse(line.as_bytes()).unwrap().kernel_thread);
    }

    #[test]
    fn a_cut_line_is_no_line() {
        let line = format!("42 (x){TAIL}");
        for end in 0..line.len() - " 4711 0 0".len() {
            assert_eq!(Stat::parse(&line.as_bytes()[..end]), None, "{end}");
        }
    }

    #[test]
    fn status_lines_become_facts() {
        let text = "Name:\tx\\nTracerPid:\t9\nTgid:\t12\nUid:\t5\t6\t7\t8\nTracerPid:\t3\nNSpid:\t12\t1\n\
                    Seccomp:\t2\nNoNewPrivs:\t1\nSigCgt:\t0000000000000400\nx86_Thread_features:\tshstk wrss\n\
                    CapEff:\t0000000000080000\n";
        let status = Status::parse(text.as_bytes());
        assert_eq!((status.process, status.uid, status.euid, status.tracer), (12, 5, 6, 3));
        assert_eq!(status.namespace_ids, [12, 1]);
        assert_eq!(status.seccomp, Seccomp::Filter);
        assert!(status.no_new_privs && status.shadow_stack);
        assert!(status.signals.caught.contains(11) && !status.signals.caught.contains(10));
        assert_eq!(status.capabilities, 1 << 19);
    }
}
