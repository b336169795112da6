//! Text of the target, made harmless for a terminal.
//!
//! Control characters drive the terminal (ESC, and U+009B, which is ESC [ in one character); direction marks
//! reorder what follows (CVE-2021-42574, "Trojan Source"); invisible characters make different names look the
//! same. All of them are shown by their number.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything escaped that could act on a terminal or hide: `\n`, `\t`, `\r`, `\x1b`,
/// `\u{202e}`; a backslash is doubled, so that the escapes are unambiguous. Borrows if nothing is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c == '\\' || is_active(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a String never fails.
        let _ = match c {
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            c if is_active(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    Cow::Owned(out)
}

/// Whether a character acts on a terminal, reorders text, or cannot be seen.
pub(crate) fn is_active(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'           // C0, DEL, C1
        | '\u{ad}'                                      // soft hyphen
        | '\u{61c}' | '\u{200e}' | '\u{200f}'           // direction marks
        | '\u{202a}'..='\u{202e}'                       // direction embedding and override
        | '\u{2066}'..='\u{206f}'                       // direction isolates, deprecated format characters
        | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}'     // zero width
        | '\u{2028}' | '\u{2029}'                       // line and paragraph separators
        | '\u{180e}' | '\u{fff9}'..='\u{fffb}'          // vowel separator, interlinear annotation
        | '\u{e0000}'..='\u{e0fff}') // tags and variation selectors beyond the basic plane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_borrowed_as_it_is() {
        for text in ["", "get", "naïve 東京 🦀", "a \"quoted\" name"] {
            assert!(matches!(escape(text), Cow::Borrowed(t) if t == text));
        }
    }

    #[test]
    fn what_drives_a_terminal_is_shown_by_number() {
        for (text, shown) in [
            ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            ("a\nb\r\tc\0\x7f", "a\\nb\\r\\tc\\x00\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("user\u{202e}gpj.exe", "user\\u{202e}gpj.exe"),
            ("a\u{200b}b\u{feff}\u{2028}\u{e0041}", "a\\u{200b}b\\u{feff}\\u{2028}\\u{e0041}"),
            ("C:\\x1b", "C:\\\\x1b"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn no_character_of_unicode_leaves_a_control_character() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            assert!(!escape(&text).chars().any(|c| c.is_control() || is_active(c)), "{:x}", u32::from(c));
        }
    }
}
