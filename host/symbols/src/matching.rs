//! Does a symbol have the name that the user wrote?
//!
//! Demangling is what costs time. A name whose last part is a plain word contains this word as it is, mangled or
//! not (both C++ and Rust write the last identifier of a path in full; only whole earlier parts are abbreviated, and
//! the few abbreviations of `std` are listed below), so that most symbols are told by one search.

use memchr::memmem::Finder;

use crate::demangle::{Forms, forms, is_mangled};
use crate::glob::Glob;

/// Words that the Itanium ABI abbreviates (section 5.1.8, "Compression").
const ABBREVIATED: [&str; 8] =
    ["allocator", "basic_string", "string", "istream", "ostream", "iostream", "basic_istream", "std"];

/// Suffixes that compilers put on whole functions they made of one (GCC, LLVM); a `.cold` or `.part` is not whole.
const VARIANTS: [&[u8]; 5] = [b".isra.", b".constprop.", b".lto_priv.", b".llvm.", b".localalias"];

/// How a name fits, the better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// As the file has it.
    Raw,
    /// As it is demangled, with or without parameters and generic arguments.
    Demangled,
    /// A variant that the compiler made of the function of that name.
    Variant,
}

/// A name to look for.
#[derive(Debug)]
pub(crate) struct Query<'q> {
    text: &'q str,
    /// `text` without spaces that mean nothing.
    squashed: String,
    word: Option<Finder<'q>>,
}

impl<'q> Query<'q> {
    pub fn new(text: &'q str) -> Self {
        let word = last_part(text).and_then(longest_word).and_then(searchable);
        Self { text, squashed: squash(text), word: word.map(Finder::new) }
    }

    pub fn fit(&self, name: &[u8]) -> Option<Fit> {
        if name == self.text.as_bytes() {
            return Some(Fit::Raw);
        }
        if is_variant(name, self.text.as_bytes()) {
            return Some(Fit::Variant);
        }
        if !is_candidate(name, self.word.as_ref()) {
            return None;
        }
        let forms = forms(std::str::from_utf8(name).ok()?)?;
        self.fits_forms(&forms).then_some(Fit::Demangled)
    }

    fn fits_forms(&self, forms: &Forms) -> bool {
        let same = |form: &str| !form.is_empty() && (form == self.text || squash(form) == self.squashed);
        same(&forms.full) || same(&forms.without_return) || same(&forms.bare) || same(&forms.plain)
    }
}

/// A pattern of names to look for.
#[derive(Debug)]
pub(crate) struct GlobQuery<'q> {
    glob: Glob,
    word: Option<Finder<'q>>,
}

impl<'q> GlobQuery<'q> {
    pub fn new(pattern: &'q str) -> Self {
        let word = last_part(pattern).and_then(longest_word).and_then(searchable);
        Self { glob: Glob::new(pattern), word: word.map(Finder::new) }
    }

    pub fn fits(&self, name: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(name) else { return false };
        if self.glob.matches(text) {
            return true;
        }
        if !is_candidate(name, self.word.as_ref()) {
            return false;
        }
        forms(text).is_some_and(|f| {
            [&f.full, &f.without_return, &f.bare, &f.plain]
                .into_iter()
                .any(|f| !f.is_empty() && self.glob.matches(f))
        })
    }
}

/// A part that is split off a function: not an entry of it.
pub(crate) fn is_split_part(name: &[u8]) -> bool {
    [&b".cold"[..], b".part."].iter().any(|mark| memchr::memmem::find(name, mark).is_some_and(|at| at > 0))
}

fn is_variant(name: &[u8], text: &[u8]) -> bool {
    let suffix = name.strip_prefix(text).filter(|_| !text.is_empty());
    suffix.is_some_and(|s| VARIANTS.iter().any(|v| s.starts_with(v)) && !is_split_part(name))
}

fn is_candidate(name: &[u8], word: Option<&Finder<'_>>) -> bool {
    is_mangled(name) && word.is_none_or(|word| word.find(name).is_some()) && !is_split_part(name)
}

/// The last part of a path, before its parameters; `None` where that is not clear.
fn last_part(text: &str) -> Option<&str> {
    if text.contains("operator") {
        return None;
    }
    let head = text.split('(').next().unwrap_or(text);
    let part = head.rsplit("::").next()?;
    (!part.is_empty() && part.is_ascii() && !part.contains(['<', '>', '{', '}', '~', '\\'])).then_some(part)
}

fn searchable(word: &str) -> Option<&[u8]> {
    (!word.is_empty() && !ABBREVIATED.iter().any(|a| a.contains(word))).then_some(word.as_bytes())
}

/// A run of letters, the longest: where nothing else is written, or it is long enough to tell symbols apart.
fn longest_word(part: &str) -> Option<&str> {
    let words = part.split(|c: char| !is_word_char(c));
    words.max_by_key(|word| word.len()).filter(|word| word.len() >= 3 || *word == part)
}

const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Takes out spaces that do not part two words.
fn squash(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let parts_words = out.chars().next_back().is_some_and(is_word_char)
            && chars.peek().is_some_and(|next| is_word_char(*next));
        if c != ' ' || parts_words {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(query: &str, name: &str) -> Option<Fit> {
        Query::new(query).fit(name.as_bytes())
    }

    #[test]
    fn cpp_names_fit_with_and_without_their_parameters() {
        let name = "_ZN4cart5Order5totalEic";
        for query in [
            "cart::Order::total",
            "cart::Order::total(int, char)",
            "cart::Order::total(int,char)",
            "cart::Order::total( int , char )",
        ] {
            assert_eq!(fit(query, name), Some(Fit::Demangled), "{query}");
        }
        assert_eq!(fit(name, name), Some(Fit::Raw));
        for query in ["Order::total", "cart::Order::total(int)", "cart::Order", "total", "cart::Order::tota"]
        {
            assert_eq!(fit(query, name), None, "{query}");
        }
    }

    #[test]
    fn templates_constructors_operators_and_rust_paths_fit() {
        for (query, name) in [
            ("ns::max", "_ZN2ns3maxIiEET_S1_S1_"),
            ("ns::max<int>", "_ZN2ns3maxIiEET_S1_S1_"),
            ("ns::max<int>(int, int)", "_ZN2ns3maxIiEET_S1_S1_"),
            ("int ns::max<int>(int, int)", "_ZN2ns3maxIiEET_S1_S1_"),
            ("Foo::Foo", "_ZN3FooC1Ev"),
            ("Foo::~Foo", "_ZN3FooD1Ev"),
            ("operator<<", "_ZlsRSoRK3Foo"),
            ("Foo::operator()", "_ZNK3FooclEv"),
            ("std::vector::push_back", "_ZNSt6vectorIiSaIiEE9push_backERKi"),
            ("std::allocator::allocator", "_ZNSaIcEC1Ev"),
            ("(anonymous namespace)::f", "_ZN12_GLOBAL__N_11fEv"),
            ("cart::Order::total", "_ZN4cart5Order5total17h0123456789abcdefE"),
            ("test::cart::Order::total", "_RNvMNtC4test4cartNtB2_5Order5total"),
            ("<test::cart::Order>::total", "_RNvMNtC4test4cartNtB2_5Order5total"),
        ] {
            assert_eq!(fit(query, name), Some(Fit::Demangled), "{query}");
        }
    }

    #[test]
    fn compiler_variants_fit_as_such_and_split_parts_do_not() {
        assert_eq!(fit("f", "f.isra.0"), Some(Fit::Variant));
        assert_eq!(fit("f", "f.constprop.0.isra.0"), Some(Fit::Variant));
        assert_eq!(fit("f", "f.cold"), None);
        assert_eq!(fit("f", "f.isra.0.cold"), None);
        assert_eq!(fit("f", "_Z1fv.cold"), None);
        assert_eq!(fit("f", "_Z1fv.isra.0"), Some(Fit::Demangled));
    }

    #[test]
    fn globs_fit_raw_and_demangled_names() {
        for (pattern, name, fits) in [
            ("mall*", "malloc", true),
            ("cart::*::total", "_ZN4cart5Order5totalEi", true),
            ("cart::Order::tot*", "_ZN4cart5Order5totalEi", true),
            ("*Order*", "_ZN4cart5Order5totalEi", true),
            ("cart::Order::tot?", "_ZN4cart5Order5totalEi", false),
            ("main.(\\*S).*", "main.(*S).Handle", true),
            ("*::operator*", "_ZNK3FooclEv", true),
        ] {
            assert_eq!(GlobQuery::new(pattern).fits(name.as_bytes()), fits, "{pattern}");
        }
    }
}
