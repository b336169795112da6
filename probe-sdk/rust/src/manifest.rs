//! The manifest's JSON, written while the probe is compiled.
//!
//! Constants are all there is: the text goes into the custom section `trocar.manifest` and not into the probe's memory.
//! Its structure is that of `PROBE-ABI.md`. Checking it is the host's part, and it does so when the probe is built.

use crate::field::Field;

/// Room for the manifest in bytes.
const ROOM: usize = 16 << 10;

/// JSON that is being written.
#[derive(Clone, Copy, Debug)]
pub struct Json {
    text: [u8; ROOM],
    len: usize,
}

/// The part of the manifest that a handler is.
#[must_use]
pub const fn handler(name: &str, points: &[&str]) -> Json {
    let mut json = Json::new();
    json.raw("{\"abi\":1,\"handlers\":[{\"name\":");
    json.string(name);
    json.raw(",\"points\":");
    json.strings(points);
    json.raw("}]}\n");
    json
}

/// Place of a name in a list: the number of a map, parameter or event.
///
/// # Panics
/// When there is no such name, which `manifest!` does not let happen.
#[must_use]
pub const fn position(names: &[&str], name: &str) -> u32 {
    let mut i = 0;
    while i < names.len() {
        if same(names[i].as_bytes(), name.as_bytes()) {
            #[expect(clippy::cast_possible_truncation, reason = "far fewer than 2^32")]
            return i as u32;
        }
        i += 1;
    }
    panic!("no such name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl Json {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: [0; ROOM], len: 0 }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its bytes; `N` is [`Self::len`].
    #[must_use]
    pub const fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut to = [0; N];
        let mut i = 0;
        while i < N {
            to[i] = self.text[i];
            i += 1;
        }
        to
    }

    const fn byte(&mut self, b: u8) {
        assert!(self.len < ROOM, "the manifest is longer than 16 KiB");
        self.text[self.len] = b;
        self.len += 1;
    }

    /// Writes text as it is.
    pub const fn raw(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() {
            self.byte(text[i]);
            i += 1;
        }
    }

    /// Writes a string with its quotes.
    pub const fn string(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let text = text.as_bytes();
        self.byte(b'"');
        let mut i = 0;
        while i < text.len() {
            let b = text[i];
            if b == b'"' || b == b'\\' {
                self.byte(b'\\');
                self.byte(b);
            } else if b < 0x20 {
                self.raw("\\u00");
                self.byte(HEX[(b >> 4) as usize]);
                self.byte(HEX[(b & 15) as usize]);
            } else {
                self.byte(b);
            }
            i += 1;
        }
        self.byte(b'"');
    }

    /// Writes a list of strings.
    pub const fn strings(&mut self, all: &[&str]) {
        self.byte(b'[');
        let mut i = 0;
        while i < all.len() {
            self.next();
            self.string(all[i]);
            i += 1;
        }
        self.byte(b']');
    }

    /// Writes the name of a constant or type as names are in the manifest: `LARGE_BYTES` and `LargeBytes` become
    /// `large_bytes`.
    pub const fn name(&mut self, rust: &str) {
        let text = rust.as_bytes();
        self.byte(b'"');
        let mut i = 0;
        while i < text.len() {
            let b = text[i];
            if b.is_ascii_uppercase()
                && i > 0
                && (text[i - 1].is_ascii_lowercase() || text[i - 1].is_ascii_digit())
            {
                self.byte(b'_');
            }
            self.byte(b.to_ascii_lowercase());
            i += 1;
        }
        self.byte(b'"');
    }

    /// Writes a number.
    pub const fn number(&mut self, n: i64) {
        if n < 0 {
            self.byte(b'-');
        }
        let mut rest = n.unsigned_abs();
        let mut power: u64 = 1;
        while rest / power >= 10 {
            power *= 10;
        }
        while power > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "one digit")]
            self.byte(b'0' + (rest / power) as u8);
            rest %= power;
            power /= 10;
        }
    }

    /// Writes a comma, unless a list or an object has just begun.
    pub const fn next(&mut self) {
        let first = self.len == 0 || self.text[self.len - 1] == b'[' || self.text[self.len - 1] == b'{';
        if !first {
            self.byte(b',');
        }
    }

    /// Writes a field of an event or key into a list.
    pub const fn field<T: Field>(&mut self, name: &str) {
        self.next();
        self.raw("{\"name\":");
        self.string(name);
        self.raw(",\"type\":");
        self.string(T::TYPE);
        if T::BYTES > 0 {
            self.raw(",\"bytes\":");
            self.number(T::BYTES as i64);
        }
        self.raw("}");
    }

    /// Writes a documentation comment as one line: without white space at its ends, lines joined with a space.
    pub const fn about(&mut self, lines: &[&str]) {
        let mut text = Self::new();
        let mut i = 0;
        while i < lines.len() {
            if text.len > 0 {
                text.byte(b' ');
            }
            text.raw(lines[i].trim_ascii());
            i += 1;
        }
        let (used, _) = text.text.split_at(text.len);
        match core::str::from_utf8(used) {
            Ok(line) => self.string(line),
            Err(_) => panic!("made of texts, so it is one"),
        }
    }
}
