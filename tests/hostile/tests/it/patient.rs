//! A live, loaded target, and what must stay true of it whatever is put into it.

use std::process::Command;
use std::time::Instant;

use trocar_hostile::corpus::End;
use trocar_test_support::command::{binary, text};
use trocar_test_support::lines::PATIENCE;
use trocar_test_support::process::{resident_kib, text_differences};
use trocar_test_support::{Live, Outcome, Snapshot, Target};

/// Executed hits after which a probe that nothing stops is taken out.
const HITS: &str = "60";
/// Time after which one is taken out whose condition never holds: its hits are not executed.
const TIME: &str = "2s";
/// Hits without which nothing is known of a probe that nothing stopped: fewer traps bring no quarantine.
const FEWEST: u64 = 3;
/// How often a probe with fewer is loaded again.
const AGAIN: usize = 20;
/// Probes after which the target's memory is taken for the first time: it has its keys and its stacks then.
const WARM: usize = 25;
/// KiB by which it may have more at the end.
const GROWTH_KIB: u64 = 2048;

/// A program that does its work, and watches its own results.
pub struct Patient {
    target: Target,
    point: &'static str,
    before: Snapshot,
    calls: u64,
    probes: usize,
    warm_kib: u64,
    peak_kib: u64,
}

impl Patient {
    /// Starts one of the programs that probes of the corpus may name.
    pub fn start(name: &str) -> Self {
        let (mut target, point) = match name {
            "server" => {
                (Target::start_with("server", &["--self-load", "4000", "--control"]), "handle_request")
            }
            "unsteady" => (Target::start("unsteady"), "work"),
            other => panic!("no probe can be loaded into {other}"),
        };
        let before = Snapshot::of(target.pid());
        if name == "unsteady" {
            // Not earlier: the mask of a thread that handles its signal is not the one that it has.
            assert_eq!(target.ask("alarm"), "alarmed");
        }
        Self { target, point, before, calls: 0, probes: 0, warm_kib: 0, peak_kib: 0 }
    }

    /// Loads a probe, lets it be hit, and takes it out, unless it ends before. On a busy machine the target may hardly have
    /// had a turn by then: again.
    pub fn load(&mut self, path: &str, args: &[String]) -> Outcome {
        let mut outcome = self.load_once(path, args);
        for _ in 0..AGAIN {
            if outcome.status != 0 || outcome.hits() >= FEWEST {
                break;
            }
            outcome = self.load_once(path, args);
        }
        outcome
    }

    fn load_once(&self, path: &str, args: &[String]) -> Outcome {
        let pid = self.target.pid().to_string();
        let mut command = Command::new(binary());
        command
            .args(["load", path, "-p", &pid, "--at", self.point, "--hits", HITS, "--for", TIME, "-o", "json"])
            .args(args);
        // Thousands of modules are of no use to anybody's cache.
        command.env_remove("XDG_CACHE_HOME").env_remove("HOME");
        Live::spawn(&mut command).finish()
    }

    /// It is alive, works on, its answers are right, its code is its file's, and its memory does not grow.
    pub fn check(&mut self, after: &str) {
        let deadline = Instant::now() + PATIENCE;
        let calls = loop {
            let stats = self.target.ask("stats");
            assert_eq!(Target::field(&stats, "wrong"), 0, "after {after}: {stats}");
            let calls =
                stats.split_whitespace().nth(1).and_then(|w| w.split_once('=')?.1.parse().ok()).unwrap();
            if calls > self.calls {
                break calls;
            }
            assert!(Instant::now() < deadline, "after {after} it does not work on: {stats}");
        };
        self.calls = calls;
        let differences = text_differences(self.target.pid());
        assert!(differences.is_empty(), "after {after}: {differences:#?}");
        self.probes += 1;
        let kib = resident_kib(self.target.pid());
        if self.probes <= WARM {
            self.warm_kib = self.warm_kib.max(kib);
        }
        self.peak_kib = self.peak_kib.max(kib);
        let most = self.warm_kib + GROWTH_KIB;
        assert!(
            kib <= most,
            "after {after}, probe {}: {kib} KiB, and {} in the beginning",
            self.probes,
            self.warm_kib
        );
    }

    /// Everything is as it was before the first probe.
    pub fn finish(mut self) {
        self.before.assert_same();
        println!(
            "{} probes; {} calls; {} KiB in the beginning, {} at most",
            self.probes, self.calls, self.warm_kib, self.peak_kib
        );
        assert!(self.target.ask("stats").contains("wrong=0"));
    }
}

/// Panics unless this is the end that was expected, or for a probe of which nothing is known, an end that is explained.
pub fn assert_end(outcome: &Outcome, expected: Option<&End>) {
    let shown = outcome.stderr.chars().all(|c| c == '\n' || !c.is_control());
    assert!(shown, "control characters reach the terminal: {outcome}");
    match expected {
        Some(End::Refused(words)) => refused(outcome, words),
        Some(End::Usage(words)) => misused(outcome, words),
        Some(End::Quarantined(words)) => quarantined(outcome, words),
        Some(End::Fine) => {
            came_out(outcome);
            assert_eq!(outcome.lost(), 0, "{outcome}");
        }
        Some(End::Clean) => came_out(outcome),
        Some(End::Lossy(reason)) => {
            came_out(outcome);
            assert!(outcome.lost_as(reason) > 0, "no hit was lost as {reason}: {outcome}");
        }
        None if outcome.status == 0 => came_out(outcome),
        None if outcome.all("attached").next().is_some() => quarantined(outcome, ""),
        None => refused(outcome, ""),
    }
}

/// It was in the target, and it is out again; every hit is accounted for.
fn came_out(outcome: &Outcome) {
    outcome.assert_clean();
    assert!(outcome.hits() > 0, "{outcome}");
}

fn refused(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.status, 8, "{outcome}");
    assert!(outcome.all("attached").next().is_none(), "{outcome}");
    let error = outcome.one("error");
    let message = text(error, "message").to_lowercase();
    assert!(!message.is_empty() && message.contains(words), "the message says `{words}`: {outcome}");
}

/// What is wrong with the words of the command is told to people alone.
fn misused(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.status, 2, "{outcome}");
    assert!(outcome.lines.is_empty(), "{outcome}");
    assert!(outcome.stderr.to_lowercase().contains(words), "the message says `{words}`: {outcome}");
}

fn quarantined(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.status, 8, "{outcome}");
    let state = outcome.one("state");
    assert_eq!(text(state, "state"), "quarantined", "{outcome}");
    let why = text(state, "why").to_lowercase();
    assert!(!why.is_empty() && why.contains(words), "the reason says `{words}`: {outcome}");
    outcome.assert_receipt();
    assert!(outcome.lost() >= 3 && outcome.hits() >= 3, "{outcome}");
}
