//! A probe from `new` to `check`, in WAT: it needs no compiler. The other languages are in `tests/e2e`.

use std::fs;

use tempfile::TempDir;

use crate::run::{run, run_in};

fn new_wat(folder: &TempDir) -> std::path::PathBuf {
    let said = run_in(folder.path(), &["new", "wat", "first"]);
    assert_eq!(said.status, 0, "{said:?}");
    folder.path().join("first")
}

#[test]
fn a_new_project_builds_and_its_check_tells_what_it_may_do() {
    let folder = TempDir::new().unwrap();
    let project = new_wat(&folder);
    let said = run_in(&project, &["build"]);
    assert_eq!(said.status, 0, "{said:?}");
    let told = said.one("check");
    assert_eq!((told["probe"].as_str(), told["ok"].as_bool()), (Some("first"), Some(true)), "{told}");
    assert_eq!(told["capabilities"], serde_json::json!(["maps", "registers"]));
    assert_eq!(told["system_calls_per_hit"], 0);
    assert!(told["worst_fuel"].as_u64().is_some_and(|fuel| fuel < 100), "{told}");
    assert!(told["ns_per_hit"].as_f64().is_some_and(|ns| ns > 0.0), "{told}");
    let handler = &told["handlers"][0];
    assert_eq!(
        (&handler["worst_fuel"], handler["unbounded"].as_str()),
        (&told["worst_fuel"], None),
        "{told}"
    );
    assert_eq!((&handler["system_calls_per_hit"], &told["most_system_calls"]), (&0.into(), &0.into()));
    let imports = told["imports"].as_array().unwrap();
    let arg = imports.iter().find(|i| i["name"] == "arg").unwrap_or_else(|| panic!("{told}"));
    assert_eq!((arg["capability"].as_str(), arg["system_calls"].as_u64()), (Some("registers"), Some(0)));
    assert_eq!(told["start_fuel_limit"], 10_000_000);
    assert!(told["features"].is_array(), "{told}");
    let again = run(&["check", project.join("first.wasm").to_str().unwrap()]).one("check");
    assert_eq!(again["bytes"], told["bytes"]);
    let table = run_in(&project, &["check", "first.wasm", "-o", "table"]).stdout;
    assert!(
        table.contains("system calls per hit  <= 0")
            && table.contains("metered, cut at 10000")
            && table.contains("on_hit: fuel <= "),
        "{table}"
    );
}

#[test]
fn a_project_is_made_in_every_language_and_never_over_another() {
    let folder = TempDir::new().unwrap();
    for language in ["rust", "c", "c++", "cpp", "zig", "assemblyscript", "as", "go", "wat"] {
        let name = &language.replace('+', "p-");
        let said = run_in(folder.path(), &["new", language, name]);
        let files: Vec<String> = serde_json::from_value(said.one("project")["files"].clone()).unwrap();
        for file in &files {
            let text = fs::read_to_string(folder.path().join(name).join(file)).unwrap();
            assert!(!text.contains("{{name}}"), "{language}/{file} has its name");
        }
        assert!(files.len() >= 4, "{files:?}");
        run_in(folder.path(), &["new", language, name]).refused(&["cannot be made"]);
    }
    for name in ["9lives", "../x/..", "with blank", "naïve", &"x".repeat(65)] {
        run_in(folder.path(), &["new", "wat", name]).refused(&["name"]);
    }
    run_in(folder.path(), &["new", "cobol", "x"]).refused(&["cobol", "rust"]);
}

#[test]
fn pack_puts_a_manifest_into_a_module_and_again_another() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let text = r#"(module (import "trocar" "counter_add" (func $add (param i32 i32 i64)))
        (func (export "on_hit") (call $add (i32.const 0) (i32.const 0) (i64.const 1))))"#;
    fs::write(at.join("p.wat"), text).unwrap();
    for name in ["one", "two"] {
        let toml = format!("abi = 1\nname = \"{name}\"\n[[maps]]\nname = \"calls\"\nkind = \"counter\"\n");
        fs::write(at.join("probe.toml"), toml).unwrap();
        let from = if name == "one" { "p.wat" } else { "p.wasm" };
        let said = run_in(at, &["pack", from]);
        assert_eq!(said.status, 0, "{said:?}");
        assert_eq!(said.one("check")["probe"], name);
        assert_eq!(run_in(at, &["check", "p.wasm"]).one("check")["maps"][0]["name"], "calls");
    }
    let said = run_in(at, &["pack", "p.wasm", "--out", "q.wasm"]);
    assert_eq!(
        (said.status, fs::read(at.join("q.wasm")).unwrap()),
        (0, fs::read(at.join("p.wasm")).unwrap())
    );
}

#[test]
fn a_wrong_manifest_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("p.wat"), r#"(module (func (export "on_hit")))"#).unwrap();
    run_in(at, &["pack", "p.wat"]).failed(8, &["probe.toml", "cannot be read"]);
    for (toml, word) in [
        ("name = \"x\"", "abi"),
        ("abi = 1\nname = \"x\"\nwhatever = 3", "whatever"),
        ("abi = 1\nname = ", "name"),
        ("abi = 1\nname = \"x\"\n[[handlers]]\nname = \"on_his\"", "on_his"),
    ] {
        fs::write(at.join("probe.toml"), toml).unwrap();
        run_in(at, &["pack", "p.wat"]).failed(8, &[word]);
    }
    assert!(!at.join("p.wasm").exists());
}

#[test]
fn a_folder_without_a_probe_is_refused() {
    let folder = TempDir::new().unwrap();
    run_in(folder.path(), &["build"]).refused(&["no Cargo.toml", "trocar new"]);
    run_in(folder.path(), &["build", "nowhere"]).refused(&["nowhere"]);
    fs::write(folder.path().join("a.wat"), "(module)").unwrap();
    fs::write(folder.path().join("b.wat"), "(module)").unwrap();
    run_in(folder.path(), &["build"]).refused(&["more than one"]);
}
