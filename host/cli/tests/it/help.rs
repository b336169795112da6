//! The manual pages, as golden files beside this one: `TROCAR_BLESS=1` writes them anew.

use std::fs;
use std::path::Path;

use crate::run::run;

/// Every verb of this version.
const VERBS: [&str; 15] = [
    "ps",
    "points",
    "count",
    "time",
    "load",
    "off",
    "check",
    "new",
    "build",
    "pack",
    "test",
    "probes",
    "demo",
    "doctor",
    "completions",
];

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/help/{name}.txt"));
    if std::env::var_os("TROCAR_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs (TROCAR_BLESS=1 accepts it):\n{text}", path.display());
}

#[test]
fn the_manual_pages_are_as_they_were_accepted() {
    golden("trocar", &run(&["--help"]).stdout);
    for verb in ["ps", "points", "count", "time", "load", "check", "test"] {
        golden(verb, &run(&[verb, "--help"]).stdout);
    }
}

#[test]
fn every_verb_has_a_page_with_two_examples_that_fits_a_hundred_columns() {
    for verb in VERBS {
        let page = run(&[verb, "--help"]);
        assert_eq!((page.status, page.stderr.as_str()), (0, ""), "{verb}");
        let (_, examples) =
            page.stdout.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb}: {page:?}"));
        let count = examples.lines().filter(|l| l.contains(&format!("trocar {verb}"))).count();
        assert!(count >= 2, "{verb}: {count} examples\n{examples}");
        let (about, _) = page.stdout.split_once("Examples:").unwrap();
        assert!(about.lines().all(|l| l.chars().count() <= 100), "{verb}\n{about}");
    }
}

#[test]
fn the_overview_names_every_verb_and_no_hidden_one() {
    let page = run(&["--help"]).stdout;
    for verb in VERBS {
        assert!(page.lines().any(|l| l.trim_start().starts_with(verb)), "{verb}\n{page}");
    }
    assert!(!page.contains("__start"), "{page}");
}

#[test]
fn the_version_is_told() {
    assert_eq!(run(&["--version"]).stdout, format!("trocar {}\n", env!("CARGO_PKG_VERSION")));
}
