//! Where unsafe code may be, and that each block says why it is sound.

use crate::tree::{none_of, rust_files};

/// Folders whose crates own unsafe code. Each file that uses it opts in with its reason.
const OWNERS: &[&str] = &["runtime/ring/", "runtime/sandbox/", "runtime/agent/", "host/inject/"];

/// Single files elsewhere that may hold unsafe code, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("host/compile/tests/it/", "a machine made of plain memory, and code that was just compiled, for tests"),
    ("host/rehearse/src/code.rs", "compiled code is loaded by a call that trusts it"),
    ("tests/hostile/src/memory.rs", "a target that scribbles over shared memory, for tests and fuzzers"),
    ("tests/spec/tests/it/world.rs", "code that was just compiled is loaded as the agent loads it"),
    ("host/rehearse/src/memory.rs", "rings and maps are raw memory, off target as well"),
    ("probe-sdk/", "the import functions of the probe ABI are foreign functions, declared unsafe"),
    ("host/target/src/system.rs", "process facts for which rustix has no call"),
    ("host/collect/src/fake.rs", "a target made up for tests: it writes shared memory as a real one does"),
];

/// Lines above an unsafe block in which SAFETY must stand.
const ABOVE: usize = 8;

/// The code of a line: no comment, no text in quotes.
fn code(line: &str) -> String {
    let plain = line.replace("\\\"", "");
    let before_comment = plain.split("//").next().unwrap_or_default();
    let mut pieces = before_comment.split('"');
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    while pieces.next().is_some() {
        kept.push_str("\"\"");
        kept.push_str(pieces.next().unwrap_or_default());
    }
    kept
}

/// Whether the line holds the keyword as a word.
fn has_unsafe(line: &str) -> bool {
    let code = code(line);
    let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    // `unsafe_code` in an attribute is one word, and another one.
    words.any(|w| w == "unsafe")
}

#[test]
fn unsafe_code_lives_in_the_crates_that_own_it() {
    let mut found = Vec::new();
    for file in rust_files() {
        let owned = OWNERS.iter().any(|o| file.path.starts_with(o));
        if owned || EXCEPTIONS.iter().any(|(path, _)| file.path.starts_with(path)) {
            continue;
        }
        for (n, line) in file.text.lines().enumerate().filter(|(_, l)| has_unsafe(l)) {
            found.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
        }
    }
    none_of("unsafe code outside the crates that own it", &found);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut found = Vec::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            if !(has_unsafe(line) && code(line).contains("unsafe {")) {
                continue;
            }
            let above = lines.get(n.saturating_sub(ABOVE)..=n).unwrap_or_default();
            if !above.iter().any(|l| l.contains("SAFETY")) {
                found.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    none_of("unsafe blocks without SAFETY in the lines above", &found);
}

#[test]
fn a_file_that_opts_in_to_unsafe_code_gives_its_reason() {
    let mut found = Vec::new();
    for file in rust_files() {
        let opts_in = |l: &str| l.contains("expect(") && l.contains("unsafe_code");
        let without = |l: &str| opts_in(l) && !l.contains("reason");
        for (n, line) in file.text.lines().enumerate().filter(|(_, l)| without(l)) {
            // The reason may stand on the next line.
            let next = file.text.lines().nth(n + 1).unwrap_or_default();
            if !next.contains("reason") {
                found.push(format!("{}:{}: {}", file.path, n + 1, line.trim()));
            }
        }
    }
    none_of("opt-ins without a reason", &found);
}

#[test]
fn the_reader_of_lines_tells_code_from_comments() {
    assert!(has_unsafe("    let x = unsafe { read(p) };"));
    assert!(has_unsafe("pub unsafe fn f() {}"));
    assert!(!has_unsafe("// unsafe { in a comment }"));
    assert!(!has_unsafe("let s = \"unsafe { in a text }\";"));
    assert!(!has_unsafe("#![forbid(unsafe_code)]"));
}
