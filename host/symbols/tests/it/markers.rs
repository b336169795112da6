//! Markers of programs: their notes are written here as `sys/sdt.h` writes them.

use trocar_symbols::{Origin, Point, ResolveError, Resolved, Resolver};

use crate::{c, module};

/// A program with the markers `shop:order` at two places, one with a semaphore, and `bank:paid`.
const SOURCE: &str = r#"
#define NOTE(provider, name, semaphore, args) asm volatile( \
    "990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b, _.stapsdt.base, " semaphore "\n.asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n" \
    "994: .balign 4\n.popsection\n.ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n.weak _.stapsdt.base\n.hidden _.stapsdt.base\n" \
    "_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif\n")
unsigned short counter __attribute__((used)) = 0;
__attribute__((noinline)) void first(void) { NOTE("shop", "order", "counter", "-4@%edi"); }
__attribute__((noinline)) void second(void) { NOTE("shop", "order", "0", ""); NOTE("bank", "paid", "0", "8@%rax"); }
__attribute__((noinline)) void wild(void) { NOTE("wild", "data", "first", ""); }
int main(void) { first(); second(); wild(); return 0; }
"#;

fn resolver() -> Resolver {
    let shop = module("shop", c(SOURCE, &["-O1", "-fPIE", "-pie"]), 0x5500_0000_0000);
    let other = module("other", c("int main(void) { return 0; }", &[]), 0);
    Resolver::new(vec![other, shop])
}

fn resolve(point: &str) -> Result<Vec<Resolved>, ResolveError> {
    resolver().resolve(&Point::parse(point).unwrap())
}

fn names(point: &str) -> Vec<String> {
    let name = |r: Resolved| match &r.origin {
        Origin::Marker(m) => format!("{}:{} in {}", m.provider, m.name, r.symbol.unwrap_or_default()),
        Origin::Code | Origin::Import(_) => "no marker".into(),
    };
    resolve(point).unwrap().into_iter().map(name).collect()
}

#[test]
fn a_marker_is_all_its_places() {
    assert_eq!(names("usdt:shop:order"), ["shop:order in first", "shop:order in second"]);
    assert_eq!(names("usdt:order"), names("usdt:shop:order"));
    assert_eq!(names("usdt:bank:*"), ["bank:paid in second"]);
    assert_eq!(names("usdt:*:*d*"), ["shop:order in first", "shop:order in second", "bank:paid in second"]);
}

#[test]
fn a_marker_has_its_instruction_its_semaphore_and_its_arguments() {
    let resolver = resolver();
    let elf = &resolver.modules()[1].elf;
    let found = resolve("usdt:shop:order").unwrap();
    for place in &found {
        assert_eq!(place.address, 0x5500_0000_0000 + place.vaddr);
        let segment =
            elf.segments().iter().find(|s| (s.vaddr..s.vaddr + s.file_size).contains(&place.vaddr)).unwrap();
        let offset = usize::try_from(place.vaddr - segment.vaddr + segment.offset).unwrap();
        assert_eq!(elf.bytes()[offset], 0x90, "a nop");
    }
    let semaphore = found[0].semaphore().unwrap() - 0x5500_0000_0000;
    assert!(
        elf.segments().iter().any(|s| s.write && s.vaddr <= semaphore && semaphore < s.vaddr + s.memory_size)
    );
    assert_eq!(found[1].semaphore(), None);
    assert!(matches!(&found[0].origin, Origin::Marker(m) if m.arguments == "-4@%edi"));
}

#[test]
fn a_marker_whose_semaphore_is_in_code_is_left_out() {
    assert!(matches!(resolve("usdt:wild:*"), Err(ResolveError::NoMarker { any: true, .. })));
}

#[test]
fn misspelt_markers_get_suggestions_and_programs_without_any_say_so() {
    for (point, near) in [
        ("usdt:shop:oder", "usdt:shop:order"),
        ("usdt:stop:order", "usdt:shop:order"),
        ("usdt:piad", "usdt:bank:paid"),
    ] {
        let error = resolve(point).unwrap_err();
        assert!(error.hint().unwrap().contains(near), "{point}: {error}: {:?}", error.hint());
    }
    let error = resolve("usdt:zzzzzzzz:qqqqqqqqqq").unwrap_err();
    assert!(error.hint().unwrap().contains("'usdt:*'"), "{error}");
    let none = Resolver::new(vec![module("other", c("int main(void) { return 0; }", &[]), 0)]);
    let error = none.resolve(&Point::parse("usdt:a:b").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "no marker is named a:b: no module of the process has USDT markers");
}
