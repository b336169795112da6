//! The corpus: small WAT files, each named by its trick, with its expected end in a comment.
//!
//! ```text
//! ;; trick: what it tries
//! ;; end: refused WORDS | usage WORDS | quarantined WORDS | fine | clean | lossy REASON
//! ;; args: further arguments of `trocar load`            (may be missing)
//! ;; target: a program of tests/targets                  (may be missing: server)
//! ;;*N TEXT      stands for N lines of TEXT, with # for the number of the line
//! ;;+N TEXT      the same in one line with what is before and behind it
//! ```

use std::fs;
use std::path::Path;

/// How a probe ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Exit status 8 before anything runs in the target; the message holds these words.
    Refused(String),
    /// Exit status 2: the same for what is wrong with the command.
    Usage(String),
    /// Exit status 8, by quarantine; the reason holds these words.
    Quarantined(String),
    /// Exit status 0, and no hit was lost.
    Fine,
    /// Exit status 0; hits may be lost, since how many is the target's affair.
    Clean,
    /// Exit status 0, and hits were lost for this reason.
    Lossy(String),
}

/// A probe of the corpus.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the file without its ending.
    pub name: String,
    /// The expected end.
    pub end: End,
    /// Further arguments of `trocar load`.
    pub args: Vec<String>,
    /// The program that it is loaded into.
    pub target: String,
    /// Its text, with repetitions written out.
    pub text: String,
}

/// Every probe of the corpus, by name.
#[must_use]
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut cases: Vec<Case> =
        fs::read_dir(folder).unwrap().map(|file| read(&file.unwrap().path())).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn read(path: &Path) -> Case {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(path).unwrap();
    let said = |what: &str| text.lines().find_map(|l| l.strip_prefix(&format!(";; {what}: ")));
    assert!(said("trick").is_some_and(|t| !t.is_empty()), "{name} does not say what it tries");
    let end = said("end").unwrap_or_else(|| panic!("{name} does not say how it ends"));
    let (kind, words) = end.split_once(' ').unwrap_or((end, ""));
    let words = words.to_lowercase();
    let end = match kind {
        "refused" => End::Refused(words),
        "usage" => End::Usage(words),
        "quarantined" => End::Quarantined(words),
        "fine" => End::Fine,
        "clean" => End::Clean,
        "lossy" => End::Lossy(words),
        other => panic!("{name}: there is no end `{other}`"),
    };
    let args = said("args").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let target = said("target").unwrap_or("server").to_owned();
    let text = written_out(&text);
    Case { name, end, args, target, text }
}

/// The text with every repetition in full.
fn written_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let glued = line.strip_prefix(";;+");
        let Some((n, what)) = glued.or_else(|| line.strip_prefix(";;*")).and_then(|l| l.split_once(' '))
        else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        if glued.is_some() {
            out.pop();
        }
        for number in 0..n.parse::<u32>().unwrap() {
            out.push_str(&what.replace('#', &number.to_string()));
            out.push_str(if glued.is_some() { "" } else { "\n" });
        }
    }
    out
}

impl Case {
    /// The module; `None` if it is text with a mistake.
    #[must_use]
    pub fn wasm(&self) -> Option<Vec<u8>> {
        wat::parse_str(&self.text).ok()
    }
}
