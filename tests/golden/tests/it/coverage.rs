//! What of real programs can be patched. For Debian's programs the counts are in `coverage/NAME.json`, with the build
//! id of the file that they were taken from: where the machine has that very file, they must be the same. Where it has
//! another, the test says so and what it found, and holds that to what is promised. `TROCAR_BLESS=1` writes the files.

use std::fs;
use std::path::{Path, PathBuf};

use trocar_golden::{Coverage, Tally};
use trocar_test_support::command::binary;
use trocar_test_support::target::path;

/// Least share of entries, exits and instructions that can be patched, in percent.
type Promise = [f64; 3];

/// Debian's programs, and what is promised for any version of them.
const DEBIAN: [(&str, &str, Promise); 4] = [
    ("redis-server", "/usr/bin/redis-server", [99.0, 97.0, 95.0]),
    ("nginx", "/usr/sbin/nginx", [99.0, 97.0, 95.0]),
    ("python3.11", "/usr/bin/python3.11", [98.0, 92.0, 95.0]),
    ("libc", "/lib/x86_64-linux-gnu/libc.so.6", [99.0, 96.0, 95.0]),
];

/// `trocar` itself: Rust, with its symbols. Of its exits 3.4 % are refused as `too_short`. By hand: returns of one to
/// four bytes whose own start is a branch's target, so that no window can begin before them, followed by other code and
/// with no padding within 128 bytes (the arms of a `match` that return constants; the last `ret` of a destructor).
const OWN: Promise = [99.0, 96.0, 95.0];

/// Go programs, planned as for the running program, whose goroutines are searched before anything is written. What is left
/// is counted as what it is. Of entries and exits: assembly without a stack check, and what assembly calls
/// (`stack_unknown`: how much stack is left is not to be found out without registers that are free for sure);
/// functions that begin by reading through a pointer (`faulting`: Go turns a fault into a panic by its address).
const GO: [(&str, Promise); 2] = [("server-go", [90.5, 95.5, 65.0]), ("server-go-new", [89.0, 94.5, 60.0])];
/// The same where they cannot be searched (a version of Go that nobody has read): between two instructions a goroutine
/// may be preempted (`too_short`), and a return is one byte that others follow.
const GO_UNSEARCHED: Promise = [79.0, 0.4, 35.0];

fn measure(file: &Path) -> Coverage {
    let bytes = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    Coverage::of(&bytes, &mut |_, _| ()).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Every total is the sum of what is in it, and the promise is kept.
fn keeps(name: &str, coverage: &Coverage, promise: Promise) {
    let tallies = [&coverage.entries, &coverage.exits, &coverage.instructions];
    for (tally, least) in tallies.into_iter().zip(promise) {
        let sum = |t: &Tally| t.planned.values().chain(t.refused.values()).sum::<u64>();
        assert_eq!(sum(tally), tally.total, "{name}\n{coverage}");
        assert!(tally.share() >= least, "{name}: {:.2} % of {least} % promised\n{coverage}", tally.share());
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("coverage").join(format!("{name}.json"))
}

fn as_accepted(name: &str, file: &str, promise: Promise) {
    let file = Path::new(file);
    if !file.exists() {
        println!(
            "{}",
            serde_json::json!({ "golden": name, "compared": false, "why": "not on this machine" })
        );
        return;
    }
    let found = measure(file);
    keeps(name, &found, promise);
    let path = golden(name);
    if std::env::var_os("TROCAR_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&found).expect("numbers and names");
        fs::write(&path, text + "\n").expect("the tree is writable");
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let accepted: Coverage =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if found.build_id == accepted.build_id {
        assert_eq!(
            found, accepted,
            "{name} is as it was, but the plans are not; TROCAR_BLESS=1 accepts them"
        );
        return;
    }
    let why = format!("build id {} is here, {} was accepted", found.build_id, accepted.build_id);
    println!("{}", serde_json::json!({ "golden": name, "compared": false, "why": why, "found": found }));
}

#[test]
fn redis_server_is_patched_as_accepted() {
    let [(name, file, promise), ..] = DEBIAN;
    as_accepted(name, file, promise);
}

#[test]
fn nginx_is_patched_as_accepted() {
    let [_, (name, file, promise), ..] = DEBIAN;
    as_accepted(name, file, promise);
}

#[test]
fn python_is_patched_as_accepted() {
    let [.., (name, file, promise), _] = DEBIAN;
    as_accepted(name, file, promise);
}

#[test]
fn libc_is_patched_as_accepted() {
    let [.., (name, file, promise)] = DEBIAN;
    as_accepted(name, file, promise);
}

fn go_program(name: &str, goroutines_searched: bool) -> Coverage {
    let bytes = fs::read(path(name)).expect("it was just built");
    let found =
        Coverage::with(&bytes, &mut |_, _| (), |image| image.goroutines_searched = goroutines_searched);
    found.unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn of_a_go_program_only_assembly_and_what_may_fault_are_left() {
    for (name, promise) in GO {
        let found = go_program(name, true);
        keeps(name, &found, promise);
        let known = ["stack_unknown", "faulting"];
        let other = |t: &Tally| {
            let others = t.refused.iter().filter(|(reason, _)| !known.contains(&reason.as_str()));
            100.0 * others.map(|r| *r.1).sum::<u64>() as f64 / t.total as f64
        };
        assert!(other(&found.entries) < 0.2 && other(&found.exits) < 2.0, "{found}");
    }
}

#[test]
fn without_a_search_for_goroutines_a_go_program_is_patched_by_single_instructions() {
    let found = go_program("server-go", false);
    keeps("server-go", &found, GO_UNSEARCHED);
    let reasons = ["stack_unknown", "too_short", "code_pointer_into_window"];
    let known = found.exits.refused.keys().all(|reason| reasons.contains(&reason.as_str()));
    assert!(known, "an exit is refused for another reason than the two above\n{found}");
}

/// What the command says of the running program is what was measured of its file.
#[test]
fn what_is_measured_of_a_go_programs_file_is_what_the_running_program_gets() {
    let target = trocar_test_support::Target::start("server-go");
    let pid = target.pid().to_string();
    let outcome = trocar_test_support::command::run(&["points", "-p", &pid, "return:server-go:*", "--plan"]);
    let said = outcome.all("verdict").next_back().expect("a summary");
    let sites = trocar_test_support::command::count(said, "sites");
    let refused = said.get("reasons").and_then(|r| r.get("too_short")).and_then(serde_json::Value::as_u64);
    let found = go_program("server-go", true);
    let [planned, total] = [found.exits.planned.values().sum::<u64>(), found.exits.total].map(|n| n as f64);
    assert!(sites as f64 >= 0.98 * planned, "{sites} of {planned} of {total}\n{found}");
    assert!(refused.unwrap_or(0) as f64 <= 0.005 * total, "{refused:?}");
}

#[test]
fn trocar_itself_is_patched_as_promised() {
    keeps("trocar", &measure(&binary()), OWN);
}
