//! The resolver's answers and errors.

use trocar_symbols::{LoadedModule, Origin, Point, ResolveError, Resolved, Resolver};

use crate::{address, c, module};

const A: &str = "
__attribute__((noinline)) int process(int x) { return x * 3 + 1; }
__attribute__((noinline)) int processCommand(int x) { return process(x) + process(x + 1); }
int twin(int) __attribute__((alias(\"process\")));
int shared(void) { return 1; }
int data_here = 5;
int main(int argc, char **argv) { return processCommand(argc) + data_here; }
";
const B: &str = "
int shared(void) { return 2; }
int malloc_a(void) { return 1; }
int malloc_b(void) { return 2; }
static int pick_me(void) { return 3; }
int (*pick(void))(void) { return pick_me; }
int chosen(void) __attribute__((ifunc(\"pick\")));
";

fn resolver() -> Resolver {
    let a = module("server", c(A, &["-O1", "-fPIE", "-pie"]), 0x5500_0000_0000);
    let b = c(B, &["-O1", "-fPIC", "-shared", "-Wl,-soname,libb.so.1"]);
    let b = LoadedModule { aliases: vec!["libb.so".into()], ..module("libb.so.1.2", b, 0x7f00_0000_0000) };
    Resolver::new(vec![a, b])
}

fn resolve(resolver: &Resolver, point: &str) -> Result<Vec<Resolved>, ResolveError> {
    resolver.resolve(&Point::parse(point).unwrap())
}

fn names(resolver: &Resolver, point: &str) -> Vec<String> {
    resolve(resolver, point).unwrap().into_iter().map(|r| r.symbol.unwrap()).collect()
}

#[test]
fn a_name_is_found_with_its_address_in_the_process() {
    let resolver = resolver();
    let elf = &resolver.modules()[0].elf;
    let expected = address(elf, "processCommand");
    for point in
        ["processCommand", "server:processCommand", "/opt/server:processCommand", "serv*:processCommand"]
    {
        let found = resolve(&resolver, point).unwrap();
        assert_eq!(found.len(), 1, "{point}");
        let symbol = Some("processCommand".to_owned());
        let address = 0x5500_0000_0000 + expected;
        let want = Resolved {
            module: 0,
            symbol,
            offset: 0,
            vaddr: expected,
            address,
            indirect: false,
            origin: Origin::Code,
        };
        assert_eq!(found[0], want);
    }
}

#[test]
fn offsets_addresses_and_file_addresses_name_the_same_instruction() {
    let resolver = resolver();
    let start = address(&resolver.modules()[0].elf, "processCommand");
    let by_offset = resolve(&resolver, "processCommand+0x1").unwrap();
    assert_eq!((by_offset[0].vaddr, by_offset[0].offset), (start + 1, 1));
    assert_eq!(resolve(&resolver, &format!("server:{:#x}", start + 1)).unwrap(), by_offset);
    assert_eq!(resolve(&resolver, &format!("{:#x}", 0x5500_0000_0000 + start + 1)).unwrap(), by_offset);
    let error = resolve(&resolver, "processCommand+0x1000").unwrap_err();
    assert!(matches!(error, ResolveError::OutsideFunction { offset: 0x1000, .. }), "{error}");
}

#[test]
fn modules_go_by_soname_and_alias_too() {
    let resolver = resolver();
    for module in ["libb.so.1.2", "libb.so.1", "libb.so", "/opt/libb.so.1.2", "libb*"] {
        assert_eq!(names(&resolver, &format!("{module}:malloc_a")), ["malloc_a"], "{module}");
    }
    let error = resolve(&resolver, "libc:malloc_a").unwrap_err();
    assert_eq!(error.to_string(), "no module named libc is loaded");
    assert!(error.hint().unwrap().contains("libb.so.1.2"));
}

#[test]
fn globs_name_all_functions_that_match_and_aliases_once() {
    let resolver = resolver();
    assert_eq!(names(&resolver, "malloc_*"), ["malloc_a", "malloc_b"]);
    assert_eq!(
        resolve(&resolver, "server:*")
            .unwrap()
            .iter()
            .filter(|r| r.vaddr == address(&resolver.modules()[0].elf, "twin"))
            .count(),
        1
    );
    assert_eq!(names(&resolver, "*:shared").len(), 2);
    assert!(matches!(resolve(&resolver, "zzz*"), Err(ResolveError::Unknown { .. })));
    assert!(matches!(resolve(&resolver, "malloc_*+0x1"), Err(ResolveError::Ambiguous { .. })));
}

#[test]
fn the_same_name_in_two_modules_is_ambiguous_and_each_is_named() {
    let resolver = resolver();
    let error = resolve(&resolver, "shared").unwrap_err();
    let candidates = vec!["server:shared".to_owned(), "libb.so.1.2:shared".to_owned()];
    assert_eq!(error, ResolveError::Ambiguous { name: "shared".into(), candidates: candidates.clone() });
    assert!(error.hint().unwrap().contains("server:shared"));
    for candidate in candidates {
        assert_eq!(resolve(&resolver, &candidate).unwrap().len(), 1);
    }
}

#[test]
fn the_same_static_name_twice_in_a_module_is_told_apart_by_address() {
    let two = "asm(\".text\\n.type init,@function\\ninit: mov $1,%eax; ret\\n.size init,.-init\\n\");
               asm(\".globl other\\n.type other,@function\\nother: mov $2,%eax; ret\\n.size other,.-other\\n\");
               int main(void) { return 0; }";
    let folder = tempfile::tempdir().unwrap();
    let path = crate::compile_in(folder.path(), "cc", two, &["-O1"]);
    // Two local symbols of one name, as two source files make them.
    let status = std::process::Command::new("objcopy")
        .args(["--redefine-sym", "other=init", "--localize-symbol", "other"])
        .arg(&path)
        .status();
    assert!(status.unwrap().success());
    let elf = trocar_symbols::Elf::parse(std::fs::read(path).unwrap()).unwrap();
    let resolver = Resolver::new(vec![module("twice", elf, 0)]);
    let Err(ResolveError::Ambiguous { candidates, .. }) = resolve(&resolver, "init") else {
        panic!("ambiguous")
    };
    assert_eq!(candidates.len(), 2);
    for candidate in candidates {
        let found = resolve(&resolver, &candidate).unwrap();
        assert_eq!((found.len(), found[0].symbol.as_deref()), (1, Some("init")), "{candidate}");
    }
}

#[test]
fn an_unknown_name_brings_the_nearest_ones() {
    let resolver = resolver();
    let error = resolve(&resolver, "procesCommand").unwrap_err();
    let ResolveError::Unknown { nearest, stripped, .. } = &error else { panic!("{error}") };
    assert_eq!(nearest[0], "processCommand");
    assert!(stripped.is_empty());
    assert!(error.hint().unwrap().starts_with("the nearest names are: processCommand"));
    assert_eq!(error.to_string(), "nothing is named procesCommand");

    let stripped = module("bare", c(A, &["-O1", "-s"]), 0);
    let error = resolve(&Resolver::new(vec![stripped]), "bare:process").unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing is named process in bare (bare is stripped: only the names that it exports are known)"
    );
}

#[test]
fn places_without_code_are_refused_with_what_is_there() {
    let resolver = resolver();
    let elf = &resolver.modules()[0].elf;
    let data = elf.segments().iter().find(|s| s.write).unwrap().vaddr;
    let error = resolve(&resolver, &format!("server:{data:#x}")).unwrap_err();
    assert!(error.to_string().ends_with("server has data there"), "{error}");
    let error = resolve(&resolver, &format!("{:#x}", 0x5500_0000_0000 + data)).unwrap_err();
    assert!(error.to_string().ends_with("server has data there"), "{error}");
    let error = resolve(&resolver, "0x10").unwrap_err();
    assert!(error.to_string().ends_with("no module is loaded there"), "{error}");
    let error = resolve(&resolver, "server:0xfffffff0").unwrap_err();
    assert!(error.to_string().ends_with("server has nothing there"), "{error}");

    // Padding between two functions.
    let functions = elf.functions();
    let gap = functions.windows(2).find(|w| w[0].1 < w[1].0 && elf.is_text(w[0].1)).unwrap();
    let error = resolve(&resolver, &format!("server:{:#x}", gap[0].1)).unwrap_err();
    assert_eq!(error.hint(), Some(format!("the next function is at server:{:#x}", gap[1].0)));
}

#[test]
fn an_indirect_function_says_so() {
    let found = resolve(&resolver(), "chosen").unwrap();
    assert!(found[0].indirect);
}

#[test]
fn the_vdso_answers_only_when_it_is_named() {
    let vdso =
        module("[vdso]", c("int shared(void) { return 1; } int main(void) { return 0; }", &[]), 0x7000_0000);
    let server = module("server", c(A, &["-O1"]), 0);
    let resolver = Resolver::new(vec![server, vdso]);
    assert_eq!(resolve(&resolver, "shared").unwrap()[0].module, 0);
    assert_eq!(resolve(&resolver, "[vdso]:shared").unwrap()[0].module, 1);
}

#[test]
fn kinds_that_are_still_to_come_say_so() {
    for point in ["return:main", "main.c:3"] {
        let error = resolve(&resolver(), point).unwrap_err();
        assert!(error.to_string().ends_with("points are not yet in this version"), "{error}");
    }
}
