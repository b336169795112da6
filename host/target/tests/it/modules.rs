//! The files behind mappings.

use std::path::Path;

use trocar_target::{FailureKind, Module, Process, Source, build_id, maps, modules};

use crate::{Sleeper, copy_of_cat, own_pid};

fn find(pid: i32, name: &str) -> Module {
    modules(&maps(pid).unwrap()).into_iter().find(|m| m.name.starts_with(name)).unwrap()
}

#[test]
fn this_binary_libc_and_the_vdso_are_modules_of_this_process() {
    let process = Process::inspect(own_pid()).unwrap();
    let exe = std::env::current_exe().unwrap();
    let own = find(process.pid, exe.file_name().unwrap().to_str().unwrap());
    let file = own.open_from(&process, &[Source::Path]).unwrap();
    assert_eq!(file.bytes.len() as u64, std::fs::metadata(&exe).unwrap().len());

    let libc = find(process.pid, "libc.so");
    let by_path = libc.open_from(&process, &[Source::Path]).unwrap();
    assert_eq!(by_path.bytes, std::fs::read(&libc.path).unwrap());
    let any = libc.open(&process).unwrap();
    assert_eq!(any.bytes, by_path.bytes);
    assert_eq!(build_id(&any.bytes).unwrap().len(), 20);

    let vdso = find(process.pid, "[vdso]");
    let image = vdso.open(&process).unwrap();
    assert_eq!((image.source, image.bytes.get(..4)), (Source::Memory, Some(&b"\x7fELF"[..])));
}

#[test]
fn long_debug_sections_are_left_out_and_the_rest_is_the_files() {
    let process = Process::inspect(own_pid()).unwrap();
    let exe = std::env::current_exe().unwrap();
    let read = find(process.pid, exe.file_name().unwrap().to_str().unwrap()).open(&process).unwrap().bytes;
    let whole = std::fs::read(&exe).unwrap();
    let differing = read.iter().zip(&whole).filter(|(a, b)| a != b).count();
    let wrong = read.iter().zip(&whole).filter(|(a, b)| a != b && **a != 0).count();
    assert_eq!((read.len(), wrong), (whole.len(), 0));
    // This crate is built with line tables: more than a megabyte of it is debug information.
    assert!(differing > 1 << 19, "{differing}");
}

#[test]
fn a_program_replaced_on_disk_is_read_as_it_is_mapped_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_of_cat(folder.path(), "prog");
    let sleeper = Sleeper::start(&path);
    let process = Process::open(sleeper.pid()).unwrap();
    std::fs::copy("/bin/ls", folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();

    let module = find(process.pid, "prog");
    assert!(module.deleted);
    let failure = module.open_from(&process, &[Source::Path]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NothingPatched);
    assert!(failure.message.contains("replaced after the process started"), "{failure}");
    assert!(failure.hint.unwrap().contains("sudo"));

    let exe = Process::inspect(sleeper.pid()).unwrap();
    assert!(exe.exe_deleted);
    let file = module.open(&exe).unwrap();
    assert_eq!(file.bytes, std::fs::read("/bin/cat").unwrap());
    assert_ne!(file.source, Source::Path);

    std::fs::remove_file(&path).unwrap();
    let failure = module.open_from(&process, &[Source::Path]).unwrap_err();
    assert!(failure.message.ends_with("was deleted"), "{failure}");
}

#[test]
fn a_copy_with_the_same_build_id_is_accepted_by_its_first_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_of_cat(folder.path(), "prog");
    let sleeper = Sleeper::start(&path);
    let process = Process::open(sleeper.pid()).unwrap();
    copy_of_cat(folder.path(), "new");
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    let module = find(process.pid, "prog");
    let file = module.open_from(&process, &[Source::Path]).unwrap();
    assert_eq!(file.bytes, std::fs::read("/bin/cat").unwrap());
}

#[test]
fn a_path_that_leads_to_a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_of_cat(folder.path(), "prog");
    let sleeper = Sleeper::start(&path);
    let process = Process::open(sleeper.pid()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let module = find(process.pid, "prog");
    let failure = module.open_from(&process, &[Source::Path]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NothingPatched);
}

#[test]
fn a_process_that_ended_has_no_modules_to_open() {
    let mut sleeper = Sleeper::start(Path::new("/bin/cat"));
    let process = Process::open(sleeper.pid()).unwrap();
    let module = find(process.pid, "cat");
    sleeper.0.kill().unwrap();
    sleeper.0.wait().unwrap();
    assert_eq!(module.open(&process).unwrap_err().kind, FailureKind::NoProcess);
}
