//! Go programs: the compiler comes from `go` in PATH; `tests/run` installs it.

use std::path::Path;
use std::process::Command;

use trocar_symbols::{Elf, Point, Resolver};

use crate::module;

const SOURCE: &str = "package main

import \"fmt\"

type Server struct{ n int }

//go:noinline
func (s *Server) Handle(x int) int {
	defer func() { _ = recover() }()
	if x > 100 { panic(\"too many\") }
	return s.n + x
}

func main() {
	s := &Server{n: 1}
	fmt.Println(s.Handle(2))
}
";

fn build(folder: &Path, name: &str, options: &[&str]) -> Elf {
    std::fs::write(folder.join("main.go"), SOURCE).unwrap();
    std::fs::write(folder.join("go.mod"), "module example\n\ngo 1.18\n").unwrap();
    let out = folder.join(name);
    let output = Command::new("go")
        .arg("build")
        .args(options)
        .arg("-o")
        .arg(&out)
        .arg(".")
        .current_dir(folder)
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GO111MODULE", "on")
        .env("CGO_ENABLED", "0")
        .env("HOME", folder)
        .env("GOPATH", folder.join("path"))
        .env("GOCACHE", folder.join("cache"))
        .output()
        .unwrap_or_else(|e| panic!("the Go compiler is needed by this test; tests/run installs it: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Elf::parse(std::fs::read(out).unwrap()).unwrap()
}

fn one(elf: Elf, point: &str) -> u64 {
    let resolver = Resolver::new(vec![module("server", elf, 0)]);
    let found = resolver.resolve(&Point::parse(point).unwrap()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(resolver.symbolize(found[0].vaddr), Some((0, "main.(*Server).Handle".into(), 0)));
    found[0].vaddr
}

#[test]
fn functions_are_known_in_stripped_and_position_independent_programs() {
    let folder = tempfile::tempdir().unwrap();
    let full = build(folder.path(), "full", &[]);
    assert!(full.is_go() && !full.is_pie());
    let by_symbol = crate::address(&full, "main.(*Server).Handle");
    assert_eq!(one(full, "main.(*Server).Handle"), by_symbol);

    let stripped = build(folder.path(), "stripped", &["-ldflags=-s -w"]);
    assert!(stripped.is_go() && !stripped.is_stripped() && stripped.symbols().is_empty());
    let image = stripped.code_image();
    assert!(image.go && image.functions.len() > 1000 && image.functions.is_sorted());
    assert!(image.never.iter().any(|(_, _, why)| why.contains("child side")), "runtime.clone");
    assert!(image.compiled.len() > 1000 && image.compiled.is_sorted() && image.compiled.contains(&by_symbol));
    for (name, compiled) in [("runtime.nanotime", true), ("runtime.memmove", false), ("runtime.mcall", false)]
    {
        let found = image.compiled.contains(&crate::address(&build(folder.path(), "again", &[]), name));
        assert_eq!(found, compiled, "{name}");
    }
    let (start, end) = *image.functions.iter().find(|(start, _)| *start == by_symbol).unwrap();
    assert!(end - start > 64, "as long as the function is: {start:x} {end:x}");
    let resume = image.entries.iter().filter(|at| **at > start && **at < end).count();
    assert_eq!(resume, 1, "where a recovered panic goes on");
    assert_eq!(one(stripped, "server:main.(*Server).Handle"), by_symbol);

    let mut bytes = build(folder.path(), "stripped", &["-ldflags=-s -w"]).bytes().to_vec();
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    let sectionless = Elf::parse(bytes).unwrap();
    assert!(sectionless.is_go());
    assert_eq!(one(sectionless, "main.(\\*Server).Hand?e"), by_symbol);

    let pie = build(folder.path(), "pie", &["-buildmode=pie", "-ldflags=-s -w"]);
    assert!(pie.is_go() && pie.is_pie());
    one(pie, "main.(*Server).Handle");
}

#[test]
fn the_runtime_is_known_by_the_names_of_its_functions_and_only_in_versions_that_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let full = build(folder.path(), "full", &[]);
    let adds = crate::address(&full, "runtime.allgadd");
    let waits = crate::address(&full, "runtime.asyncPreempt2");
    for options in [&["-ldflags=-s -w"][..], &["-ldflags=-s -w", "-buildmode=pie"]] {
        let stripped = build(folder.path(), "stripped", options);
        let found = stripped.go_runtime().unwrap();
        assert!(!stripped.code(&found.adds).is_empty());
        assert!(stripped.is_pie() || found.adds.start == adds, "{found:x?}");
        assert!(stripped.is_pie() || found.preempted.iter().any(|r| r.start == waits), "{found:x?}");
    }
    let bytes = full.bytes().to_vec();
    let at = memchr::memmem::find(&bytes, b"\xff Go buildinf:").unwrap();
    let minor = at + 33 + b"go1.".len();
    let version = |digits: &[u8; 2]| {
        let mut other = bytes.clone();
        other[minor..minor + 2].copy_from_slice(digits);
        Elf::parse(other).unwrap().go_runtime()
    };
    assert!(version(b"18").is_ok());
    for unread in [b"17", b"99", b"x1"] {
        assert!(version(unread).unwrap_err().contains("version of Go"), "{unread:?}");
    }
    assert!(Elf::parse(std::fs::read("/bin/sh").unwrap()).unwrap().go_runtime().is_err());
}
