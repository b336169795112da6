//! C++ programs.

use trocar_symbols::{Elf, Point, Resolver};

use crate::{address, compile, module};

const CART: &str = "
#include <stdexcept>
namespace cart {
struct Order {
  Order(int n) : n(n) {}
  __attribute__((noinline)) int total() const { return n; }
  __attribute__((noinline)) int total(int x) { return n + x; }
  int n;
};
template <typename T> __attribute__((noinline)) T most(T a, T b) { return a > b ? a : b; }
}
__attribute__((noinline)) int risky(int x) { if (x > 3) throw std::runtime_error(\"no\"); return x; }
__attribute__((noinline)) int catcher(int x) { try { return risky(x); } catch (std::exception &) { return -1; } }
int main(int argc, char **) {
  cart::Order o(argc);
  return o.total() + o.total(2) + cart::most(argc, 2) + (int)cart::most(2.0, (double)argc) + catcher(argc);
}
";

fn cart() -> Elf {
    Elf::parse(compile("g++", CART, &["-O1"])).unwrap()
}

fn addresses(resolver: &Resolver, point: &str) -> Vec<u64> {
    let resolved = resolver.resolve(&Point::parse(point).unwrap()).unwrap();
    resolved.iter().map(|r| r.vaddr).collect()
}

#[test]
fn a_name_without_parameters_means_all_overloads_and_one_with_them_means_one() {
    let elf = cart();
    let mut both = vec![address(&elf, "_ZNK4cart5Order5totalEv"), address(&elf, "_ZN4cart5Order5totalEi")];
    let (none, one) = (both[0], both[1]);
    both.sort_unstable();
    let resolver = Resolver::new(vec![module("shop", elf, 0)]);
    assert_eq!(addresses(&resolver, "cart::Order::total"), both);
    assert_eq!(addresses(&resolver, "shop:cart::Order::total"), both);
    assert_eq!(addresses(&resolver, "cart::Order::total(int)"), [one]);
    assert_eq!(addresses(&resolver, "cart::Order::total() const"), [none]);
    assert_eq!(addresses(&resolver, "_ZN4cart5Order5totalEi"), [one]);
    assert_eq!(addresses(&resolver, "cart::Order::tot*"), both);
    let named = resolver.resolve(&Point::parse("cart::Order::total(int)").unwrap()).unwrap();
    assert_eq!(named[0].symbol.as_deref(), Some("cart::Order::total(int)"));
}

#[test]
fn a_template_without_arguments_means_all_its_instances() {
    let elf = cart();
    let double = address(&elf, "_ZN4cart4mostIdEET_S1_S1_");
    let resolver = Resolver::new(vec![module("shop", elf, 0)]);
    assert_eq!(addresses(&resolver, "cart::most").len(), 2);
    assert_eq!(addresses(&resolver, "cart::most<double>"), [double]);
}

#[test]
fn landing_pads_are_entries_within_their_function() {
    // The handler stays in the function's hot part.
    let options = ["-O1", "-fno-reorder-blocks-and-partition"];
    let elf = Elf::parse(compile("g++", CART, &options)).unwrap();
    let stripped = Elf::parse(compile("g++", CART, &[options[0], options[1], "-s"])).unwrap();
    let start = address(&elf, "_Z7catcheri");
    let (_, end) = *elf.functions().iter().find(|(from, _)| *from == start).unwrap();
    for elf in [&elf, &stripped] {
        let entries = elf.code_image().entries;
        assert!(entries.iter().any(|at| *at > start && *at < end), "{start:x}..{end:x} in {entries:x?}");
    }
    // Code without exceptions has no entry inside its functions.
    let plain =
        Elf::parse(compile("cc", "int f(int x) { return x + 1; } int main(void) { return f(1); }", &["-O1"]))
            .unwrap();
    let f = address(&plain, "f");
    let (_, end) = *plain.functions().iter().find(|(from, _)| *from == f).unwrap();
    assert!(!plain.code_image().entries.iter().any(|at| *at > f && *at < end));
}
