//! JSON that is harmless on a terminal too: what could act there is written as `\u` escapes, which mean the
//! same to every reader of JSON.
//!
//! serde_json escapes U+0000 to U+001F itself and hands us the text between; the rest of INVARIANT (harmless
//! text) is kept here.

use std::io::{self, Write};

use serde_json::ser::Formatter;

use crate::escape::is_active;

/// Compact JSON with INVARIANT (harmless text).
pub(super) struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_active(*c)) {
            let (plain, after) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = after.get(c.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}
