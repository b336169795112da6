//! Patterns of names: `*` is any text, `?` any one character, and a backslash takes the meaning from what follows it.
//!
//! Matching takes time proportional to pattern times text at most.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    AnyChar,
    AnyText,
}

impl Glob {
    /// Reads a pattern; every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::AnyText,
                '?' => Token::AnyChar,
                '\\' => Token::Char(chars.next().unwrap_or('\\')),
                c => Token::Char(c),
            });
        }
        Self(tokens)
    }

    /// The text that is meant, if there is no wildcard in it.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let char = |token: &Token| if let Token::Char(c) = token { Some(*c) } else { None };
        self.0.iter().map(char).collect()
    }

    /// Whether the whole of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut tokens = self.0.as_slice();
        let mut rest = text.chars();
        // Where to go on when a try fails: after the last star, one character further.
        let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
        loop {
            match tokens.split_first() {
                Some((Token::AnyText, after)) => {
                    retry = Some((after, rest.clone()));
                    tokens = after;
                    continue;
                }
                Some((token, after)) => {
                    let fits = rest
                        .clone()
                        .next()
                        .is_some_and(|c| *token == Token::AnyChar || *token == Token::Char(c));
                    if fits {
                        rest.next();
                        tokens = after;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return true,
                None => {}
            }
            let Some((after, from)) = retry.as_mut() else { return false };
            if from.next().is_none() {
                return false;
            }
            tokens = after;
            rest = from.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_and_escapes_do_not() {
        for (pattern, text, fits) in [
            ("mall*", "malloc", true),
            ("mall*", "mall", true),
            ("mall*", "xmalloc", false),
            ("*alloc*", "je_calloc_x", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("foo(char\\*)", "foo(char*)", true),
            ("foo(char\\*)", "foo(charx)", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("main.(\\*S).H", "main.(*S).H", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn only_a_pattern_without_wildcards_is_a_text() {
        assert_eq!(Glob::new("a\\*b").literal().as_deref(), Some("a*b"));
        assert_eq!(Glob::new("a*b").literal(), None);
    }

    #[test]
    fn many_stars_end_in_time() {
        assert!(!Glob::new(&"a*".repeat(200)).matches(&"a".repeat(199)));
        assert!(!Glob::new(&format!("{}b", "*a".repeat(500))).matches(&"a".repeat(5000)));
    }
}
