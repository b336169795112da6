//! Whether a file's code turns faults into exceptions.

use std::process::Command;

use trocar_symbols::Elf;

use crate::{c, compile};

/// A leaf that may fault, a function that catches what comes out of it, and one with a destructor to run.
const LEAVES: &str = "
#include <stdexcept>
#include <string>
__attribute__((noinline)) int load(const int *p) { return *p; }
__attribute__((noinline)) int quotient(int a, int b) { return a / b; }
__attribute__((noinline)) int safe(const int *p) { try { return load(p); } catch (std::exception &) { return -1; } }
__attribute__((noinline)) std::string named(const int *p) { std::string s(\"n\"); s += std::to_string(quotient(*p, p[1])); return s; }
int main(int argc, char **argv) { return safe(&argc) + (int)named(&argc).size() + (argv[0] ? 0 : 1); }
";

fn throws_faults(bytes: Vec<u8>) -> bool {
    Elf::parse(bytes).unwrap().throws_faults()
}

#[test]
fn code_whose_loads_may_throw_is_known_and_other_code_is_not() {
    for level in ["-O0", "-O1", "-O2", "-O3", "-Os"] {
        for stripped in ["-g", "-s"] {
            let compiled = |option| compile("g++", LEAVES, &[level, stripped, option]);
            assert!(throws_faults(compiled("-fnon-call-exceptions")), "{level} {stripped}");
            assert!(!throws_faults(compiled("-fexceptions")), "{level} {stripped}");
        }
    }
    // Tail calls are calls, and so is what a program brings from others.
    assert!(!throws_faults(compile("g++", LEAVES, &["-O2", "-static"])));
    assert!(throws_faults(compile("g++", LEAVES, &["-O2", "-static", "-s", "-fnon-call-exceptions"])));
    assert!(!c("int main(void) { return 0; }", &["-O1"]).throws_faults());
}

#[test]
fn the_personality_of_ada_tells_by_its_name() {
    // In either table of symbols, wherever the routine is.
    let source =
        "int __gnat_personality_v0(void) { return 1; } int main(void) { return __gnat_personality_v0(); }";
    for options in [&["-O1"][..], &["-O1", "-rdynamic", "-s"]] {
        assert!(c(source, options).throws_faults(), "{options:?}");
    }
    assert!(!c(&source.replace("gnat", "gxx"), &["-O1"]).throws_faults());
}

#[test]
fn the_cpp_library_and_rust_programs_are_not_taken_for_such() {
    let found = Command::new("g++").arg("-print-file-name=libstdc++.so.6").output().unwrap();
    let library = String::from_utf8(found.stdout).unwrap();
    let own = std::env::current_exe().unwrap();
    for path in [library.trim(), own.to_str().unwrap()] {
        let elf = Elf::parse(std::fs::read(path).unwrap()).unwrap();
        assert!(elf.functions().len() > 1000, "{path}");
        assert!(!elf.throws_faults(), "{path}");
    }
}
