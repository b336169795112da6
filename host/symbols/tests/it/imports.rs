//! Places where programs go through their import tables, as gcc and the linker lay them out.

use trocar_symbols::{Origin, Point, ResolveError, Resolved, Resolver, Way};

use crate::{c, module};

const USER: &str = "
#include <unistd.h>
__attribute__((noinline)) int first(void) { return getpid() + 1; }
__attribute__((noinline)) int second(void) { return getpid() + getppid(); }
__attribute__((noinline)) int last(void) { return getppid(); }
int main(void) { return first() + second() + last(); }
";
/// Takes an address, in a way that the linker cannot make a call again.
const TAKER: &str = "
#include <unistd.h>
__attribute__((noinline)) int twice(int (*f)(void)) { return f() + f(); }
int main(void) { return twice(getpid) + getpid(); }
";
const LIBRARY: &str = "int getpid(void) { return 1; } int getppid(void) { return 2; }";

fn resolver(user: &str, options: &[&str]) -> Resolver {
    let user = module("user", c(user, &[&["-O2", "-fPIE", "-pie"], options].concat()), 0x5500_0000_0000);
    let library = module("libown.so", c(LIBRARY, &["-O1", "-fPIC", "-shared"]), 0x7f00_0000_0000);
    Resolver::new(vec![user, library])
}

fn resolve(resolver: &Resolver, point: &str) -> Result<Vec<Resolved>, ResolveError> {
    resolver.resolve(&Point::parse(point).unwrap())
}

/// Each place: which way it goes, where, and from which function.
fn places(resolver: &Resolver, point: &str) -> Vec<String> {
    let show = |r: Resolved| match &r.origin {
        Origin::Import(i) => format!("{} {} in {}", i.way.name(), i.name, r.symbol.unwrap_or_default()),
        other => format!("{other:?}"),
    };
    let mut all: Vec<String> = resolve(resolver, point).unwrap().into_iter().map(show).collect();
    all.sort();
    all
}

#[test]
fn calls_by_the_linkage_table_pass_its_stub() {
    for options in [&["-Wl,-z,lazy"][..], &["-Wl,-z,now"], &["-fcf-protection=full", "-Wl,-z,ibtplt"]] {
        let resolver = resolver(USER, options);
        assert_eq!(places(&resolver, "import:user:getpid"), ["stub getpid in getpid@plt"], "{options:?}");
        let site = &resolve(&resolver, "import:user:getpid").unwrap()[0];
        let elf = &resolver.modules()[0].elf;
        let stubs = elf.stubs();
        assert!(
            stubs.iter().any(|s| s.start == site.vaddr && (6..=7).contains(&(s.end - s.start))),
            "{stubs:x?}"
        );
    }
}

#[test]
fn without_a_linkage_table_each_call_is_a_place() {
    let resolver = resolver(USER, &["-fno-plt"]);
    assert_eq!(places(&resolver, "import:user:getpid"), ["call getpid in first", "call getpid in second"]);
    assert_eq!(places(&resolver, "import:user:getppid"), ["call getppid in second", "jump getppid in last"]);
}

#[test]
fn the_module_makes_the_calls_or_provides_the_function() {
    let resolver = resolver(USER, &["-fno-plt"]);
    let by_user = resolve(&resolver, "import:user:get*").unwrap();
    assert_eq!(by_user.len(), 4);
    assert_eq!(resolve(&resolver, "import:libown.so:get*").unwrap(), by_user);
    assert_eq!(resolve(&resolver, "import:get*").unwrap(), by_user);
}

/// What a module calls through its own table so that others may take its place is no import of it.
#[test]
fn a_module_that_calls_its_own_function_through_the_table_provides_it() {
    let own = "int getpid(void) { return 1; } int twice(void) { return getpid() + getpid(); }";
    let user = module("user", c(USER, &["-O2", "-fPIE", "-pie", "-fno-plt"]), 0x5500_0000_0000);
    let library = module("libown.so", c(own, &["-O1", "-fPIC", "-shared", "-fno-plt"]), 0x7f00_0000_0000);
    let found = places(&Resolver::new(vec![user, library]), "import:libown.so:getpid");
    let twice = "call getpid in twice";
    assert_eq!(found, ["call getpid in first", "call getpid in second", twice, twice]);
}

/// The linker does not know what a function of the host is, where it links without the host.
#[test]
fn a_plugin_calls_functions_of_its_host() {
    let plugin = "extern int host_fn(void); extern int host_data; int weak(void) __attribute__((weak));
        int use(void) { return host_fn() + host_data + (weak ? 1 : 0); }";
    let plugin = module("libpl.so", c(plugin, &["-O1", "-fPIC", "-shared", "-fno-plt"]), 0x7f00_0000_0000);
    let resolver = Resolver::new(vec![plugin]);
    assert_eq!(places(&resolver, "import:libpl.so:host_fn"), ["call host_fn in use"]);
    assert!(resolve(&resolver, "import:libpl.so:host_data").is_err());
}

#[test]
fn an_address_that_is_taken_is_told() {
    let resolver = resolver(TAKER, &["-fno-plt", "-Wl,--no-relax"]);
    let found = resolve(&resolver, "import:user:getpid").unwrap();
    let ways: Vec<Way> = found
        .iter()
        .filter_map(|r| if let Origin::Import(i) = &r.origin { Some(i.way) } else { None })
        .collect();
    assert!(ways.contains(&Way::Address), "{ways:?}");
}

#[test]
fn misspelt_imports_get_suggestions() {
    let resolver = resolver(USER, &[]);
    let error = resolve(&resolver, "import:user:getpdi").unwrap_err();
    assert_eq!(error.to_string(), "no call goes through an import table to getpdi in user");
    assert!(error.hint().unwrap().contains("getpid"), "{:?}", error.hint());
    let error = resolve(&resolver, "import:usr:getpid").unwrap_err();
    assert!(matches!(error, ResolveError::NoModule { .. }), "{error}");
}
