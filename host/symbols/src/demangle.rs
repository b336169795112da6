//! Names as people write them: C++ (Itanium ABI), Rust (legacy and v0); Go and C names are plain already.
//!
//! A mangled name can describe text that is exponentially longer than itself, so that output is cut at a limit: such
//! a name stays as it is. Hash parts of Rust names are left out.

use std::borrow::Cow;
use std::fmt::{self, Write};

use cpp_demangle::{DemangleNodeType, DemangleOptions, DemangleWrite};

/// Most bytes of a mangled name that is looked at, and of a demangled one.
const MANGLED: usize = 16 << 10;
const DEMANGLED: usize = 64 << 10;

/// The name as people read it: with parameters in C++, without the hash in Rust; the name itself if it is not mangled.
#[must_use]
pub fn demangle(name: &str) -> Cow<'_, str> {
    if let Some(rust) = rust(name) {
        return Cow::Owned(rust);
    }
    match cpp(name).and_then(|symbol| print(&symbol, DemangleOptions::new(), false)) {
        Some(cpp) => Cow::Owned(cpp),
        None => Cow::Borrowed(name),
    }
}

/// The ways in which a demangled name may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forms {
    /// As [`demangle`] gives it.
    pub full: String,
    /// C++: without the return type that templates have. Empty when the same as `full`.
    pub without_return: String,
    /// C++: without return type and parameters. Empty when the same as `full`.
    pub bare: String,
    /// Without generic arguments too, and in Rust without the brackets of an inherent implementation.
    pub plain: String,
}

/// The forms of a mangled name; `None` if it is not mangled.
pub(crate) fn forms(name: &str) -> Option<Forms> {
    if let Some(full) = rust(name) {
        let plain = rust_plain(&full);
        return Some(Forms { full, without_return: String::new(), bare: String::new(), plain });
    }
    let symbol = cpp(name)?;
    let short = DemangleOptions::new().no_params().no_return_type();
    Some(Forms {
        full: print(&symbol, DemangleOptions::new(), false)?,
        without_return: print(&symbol, DemangleOptions::new().no_return_type(), false)?,
        bare: print(&symbol, short, false)?,
        plain: without_tags(&print(&symbol, short, true)?),
    })
}

/// Whether a name looks mangled at all, at the price of two comparisons.
pub(crate) fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_Z") || name.starts_with(b"_R")
}

fn rust(name: &str) -> Option<String> {
    if name.len() > MANGLED || !is_mangled(name.as_bytes()) {
        return None;
    }
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Limited(String::new());
    write!(out, "{symbol:#}").ok()?;
    Some(out.0)
}

fn cpp(name: &str) -> Option<cpp_demangle::Symbol<&str>> {
    if name.len() > MANGLED || !name.starts_with("_Z") {
        return None;
    }
    cpp_demangle::Symbol::new(name).ok()
}

fn print(
    symbol: &cpp_demangle::Symbol<&str>,
    options: DemangleOptions,
    without_arguments: bool,
) -> Option<String> {
    let mut out = Printer { out: Limited(String::new()), without_arguments, depth: 0, closing: false };
    symbol.structured_demangle(&mut out, &options).ok()?;
    Some(out.out.0)
}

/// Text up to a limit.
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.0.len() + s.len() > DEMANGLED {
            return Err(fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

/// Takes the demangler's text and leaves template arguments out if asked to. The demangler announces them between
/// the two brackets: the opening one is taken back, the closing one not taken.
struct Printer {
    out: Limited,
    without_arguments: bool,
    depth: u32,
    closing: bool,
}

impl DemangleWrite for Printer {
    fn push_demangle_node(&mut self, node: DemangleNodeType) {
        let arguments = self.without_arguments && matches!(node, DemangleNodeType::TemplateArgs);
        if arguments && self.depth == 0 && self.out.0.ends_with('<') {
            self.out.0.pop();
            // A space parts it from an operator's sign.
            if self.out.0.ends_with("< ") {
                self.out.0.pop();
            }
        }
        self.depth += u32::from(arguments || self.depth > 0);
    }

    fn write_string(&mut self, s: &str) -> fmt::Result {
        if self.depth > 0 {
            return Ok(());
        }
        let s = if std::mem::take(&mut self.closing) { s.strip_prefix('>').unwrap_or(s) } else { s };
        self.out.write_str(s)
    }

    fn pop_demangle_node(&mut self) {
        self.closing |= self.depth == 1;
        self.depth = self.depth.saturating_sub(1);
    }
}

/// Takes out GNU's ABI tags: `name[abi:cxx11]`.
fn without_tags(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, tail)) = rest.split_once("[abi:") {
        out.push_str(before);
        rest = tail.split_once(']').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// `<a::B>::c::<D>` becomes `a::B::c`; `<a::B as C>::d` stays.
fn rust_plain(full: &str) -> String {
    let mut text = full;
    let unwrapped;
    if let Some((inner, rest)) = full.strip_prefix('<').and_then(split_at_closing)
        && !inner.contains(" as ")
    {
        unwrapped = format!("{inner}{rest}");
        text = &unwrapped;
    }
    let mut out = String::with_capacity(text.len());
    while let Some((before, tail)) = text.split_once('<') {
        out.push_str(before);
        let is_argument = out.ends_with(|c: char| c.is_alphanumeric() || c == '_') || out.ends_with("::");
        match split_at_closing(tail).filter(|_| is_argument) {
            Some((_, rest)) => {
                out.truncate(out.strip_suffix("::").map_or(out.len(), str::len));
                text = rest;
            }
            None => {
                out.push('<');
                text = tail;
            }
        }
    }
    out.push_str(text);
    out
}

/// Splits behind an opening bracket into what is inside and what follows the closing one.
fn split_at_closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_language() {
        for (mangled, name) in [
            ("processCommand", "processCommand"),
            ("main.(*Server).Handle", "main.(*Server).Handle"),
            ("_ZN4cart5Order5totalEi", "cart::Order::total(int)"),
            ("_ZN4cart5Order5total17h0123456789abcdefE", "cart::Order::total"),
            ("_RNvMNtC4test4cartNtB2_5Order5total", "<test::cart::Order>::total"),
            ("_Znot_mangled", "_Znot_mangled"),
        ] {
            assert_eq!(demangle(mangled), name);
        }
    }

    #[test]
    fn the_forms_of_a_cpp_template_lose_one_part_after_another() {
        let forms = forms("_ZN2ns3maxIiEET_S1_S1_").unwrap();
        assert_eq!(forms.full, "int ns::max<int>(int, int)");
        assert_eq!(forms.without_return, "ns::max<int>(int, int)");
        assert_eq!(forms.bare, "ns::max<int>");
        assert_eq!(forms.plain, "ns::max");
    }

    #[test]
    fn operators_keep_their_signs_and_tags_go() {
        assert_eq!(forms("_ZlsRSoRK3Foo").unwrap().plain, "operator<<");
        assert_eq!(forms("_ZlsIiEvT_S0_").unwrap().plain, "operator<<");
        assert_eq!(forms("_ZN1AIiE1BI1CIcEE1fEv").unwrap().plain, "A::B::f");
        assert_eq!(forms("_ZN3Foo4nameB5cxx11Ev").unwrap().plain, "Foo::name");
        assert_eq!(forms("_ZNSt6vectorIiSaIiEE9push_backERKi").unwrap().plain, "std::vector::push_back");
    }

    #[test]
    fn rust_names_lose_generic_arguments_and_inherent_brackets() {
        for (full, plain) in [
            ("<test::cart::Order>::total", "test::cart::Order::total"),
            ("<a::V<u8>>::push::<fn(u8) -> B>", "a::V::push"),
            ("<a::B as c::D>::e", "<a::B as c::D>::e"),
            ("a::b::<T>::{closure#0}", "a::b::{closure#0}"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(rust_plain(full), plain);
        }
    }

    #[test]
    fn a_name_that_would_grow_without_end_stays_as_it_is() {
        // Each substitution names a pair of the one before: 2^40 characters.
        let mut name = String::from("_Z1f1aI1bS0_E");
        for _ in 0..40 {
            name += "IS_S_E";
        }
        let long = format!("_ZN{}{}E", "4abcd".repeat(10), "1x".repeat(9000));
        assert!(demangle(&name).len() <= DEMANGLED);
        assert_eq!(demangle(&long), long);
    }
}
