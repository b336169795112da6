//! Names of processes and of modules.

use std::path::Path;

use trocar_target::{Process, aliases, list_processes, maps, modules, resolve_target};

use crate::{Sleeper, copy_of_cat};

#[test]
fn numbers_are_taken_as_they_are_and_told_once() {
    assert_eq!(resolve_target("12").unwrap(), [12]);
    assert_eq!(resolve_target("12, 7,12").unwrap(), [12, 7]);
}

#[test]
fn a_name_finds_all_its_processes_also_when_it_is_longer_than_comm() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("trocar-test-named-{}", std::process::id());
    let program = copy_of_cat(folder.path(), &name);
    let mut pids: Vec<i32> = Vec::new();
    let sleepers: Vec<Sleeper> = (0..2).map(|_| Sleeper::start(&program)).collect();
    pids.extend(sleepers.iter().map(Sleeper::pid));
    pids.sort_unstable();
    assert_eq!(resolve_target(&name).unwrap(), pids);
    let first = Process::open(pids[0]).unwrap();
    assert_eq!(first.name, name[..15]);
    assert!(resolve_target(&first.name).unwrap().contains(&pids[1]));
}

#[test]
fn a_listed_process_can_be_probed_or_says_why_not() {
    let sleeper = Sleeper::start(Path::new("/bin/cat"));
    let list = list_processes().unwrap();
    assert!(list.is_sorted_by_key(|p| p.pid));
    let own = list.iter().find(|p| p.pid == sleeper.pid()).unwrap();
    assert_eq!((own.name.as_str(), own.command.as_str(), &own.obstacle), ("cat", "/bin/cat", &None));
}

#[test]
fn a_program_goes_by_its_symlink_too() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_cat(folder.path(), "real");
    std::os::unix::fs::symlink("real", folder.path().join("started")).unwrap();
    std::os::unix::fs::symlink("started", folder.path().join("third")).unwrap();
    let sleeper = Sleeper::start(&folder.path().join("started"));
    let process = Process::open(sleeper.pid()).unwrap();
    let modules = modules(&maps(process.pid).unwrap());
    let at = modules.iter().position(|m| m.name == "real").unwrap();
    let names = &aliases(&process, &modules)[at];
    for name in ["started", "third", folder.path().join("started").to_str().unwrap()] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"real".to_owned()));
}
