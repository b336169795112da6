//! From text to tokens.

use crate::error::{ExprError, Span};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    /// A number; values of 2^63 and above are kept as bits and marked.
    Int { bits: u64, above_i64: bool },
    /// A quoted text, escapes resolved.
    Text(Vec<u8>),
    /// A word.
    Word(String),
    /// `$` and what follows it, without the `$`: `arg0`, `reg.rdi`.
    Dollar(String),
    /// An operator or a bracket.
    Op(&'static str),
    /// The end.
    End,
}

/// Operators and brackets; longer ones first, so that the first that fits is the right one.
const OPS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "->", "(", ")", ",", "+", "-", "*", "/", "%", "&", "|",
    "^", "~", "!", "<", ">", "=", ".",
];

/// The tokens of `text[range]`, each with its place in `text`, and an `End`.
pub(crate) fn lex(text: &str, range: Span) -> Result<Vec<(Tok, Span)>, ExprError> {
    let mut lexer = Lexer { text, at: range.start, end: range.end };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let last = token.0 == Tok::End;
        tokens.push(token);
        if last {
            return Ok(tokens);
        }
    }
}

/// The place after the quoted text or character that starts at `at`, or the end of `text` if it is not
/// closed. For the template, which must not take a brace inside quotes for its own.
pub(crate) fn skip_quoted(text: &str, at: usize) -> usize {
    let mut chars = text.get(at..).unwrap_or_default().char_indices();
    let Some((_, quote)) = chars.next() else { return text.len() };
    while let Some((i, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + i + c.len_utf8();
        }
    }
    text.len()
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    fn error(&self, start: usize, message: impl Into<String>) -> ExprError {
        ExprError::new(self.text, start..self.at, message)
    }

    /// Takes the characters for which `f` holds.
    fn take(&mut self, f: impl Fn(char) -> bool) -> String {
        let taken: String = self.rest().chars().take_while(|c| f(*c)).collect();
        self.at += taken.len();
        taken
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn next(&mut self) -> Result<(Tok, Span), ExprError> {
        self.take(char::is_whitespace);
        let start = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok((Tok::End, start..start)) };
        let token = match first {
            '0'..='9' => self.number(start)?,
            'a'..='z' | 'A'..='Z' | '_' => Tok::Word(self.take(is_word)),
            '$' => {
                self.bump();
                Tok::Dollar(self.take(|c| is_word(c) || c == '.'))
            }
            '"' => Tok::Text(self.quoted(start, '"')?),
            '\'' => {
                let bytes = self.quoted(start, '\'')?;
                match bytes.as_slice() {
                    [one] => Tok::Int { bits: u64::from(*one), above_i64: false },
                    _ => return Err(self.error(start, "a character constant holds exactly one byte")),
                }
            }
            _ => {
                let found = OPS.iter().find(|op| self.rest().starts_with(**op));
                match found {
                    Some(op) => {
                        self.at += op.len();
                        Tok::Op(op)
                    }
                    None => {
                        self.bump();
                        return Err(self.error(start, "no part of the expression language starts like this"));
                    }
                }
            }
        };
        Ok((token, start..self.at))
    }

    fn number(&mut self, start: usize) -> Result<Tok, ExprError> {
        let word = self.take(|c| c.is_alphanumeric() || c == '_');
        let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None => (word.as_str(), 10),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(self.error(start, "not a number: write it as 42 or 0x2a"));
        }
        let bits = u64::from_str_radix(digits, radix)
            .map_err(|_| self.error(start, "this number does not fit into 64 bits"))?;
        Ok(Tok::Int { bits, above_i64: i64::try_from(bits).is_err() })
    }

    fn quoted(&mut self, start: usize, quote: char) -> Result<Vec<u8>, ExprError> {
        self.bump();
        let mut bytes = Vec::new();
        loop {
            match self.bump() {
                None => return Err(self.error(start, format!("the closing {quote} is missing"))),
                Some('\\') => bytes.push(self.escape()?),
                Some(c) if c == quote => return Ok(bytes),
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }

    /// The byte that an escape stands for; the backslash is taken already.
    fn escape(&mut self) -> Result<u8, ExprError> {
        let start = self.at.saturating_sub(1);
        match self.bump() {
            Some('n') => Ok(b'\n'),
            Some('r') => Ok(b'\r'),
            Some('t') => Ok(b'\t'),
            Some('0') => Ok(0),
            Some('\\') => Ok(b'\\'),
            Some('\'') => Ok(b'\''),
            Some('"') => Ok(b'"'),
            Some('x') => {
                let digits: String =
                    self.rest().chars().take(2).take_while(char::is_ascii_hexdigit).collect();
                self.at += digits.len();
                u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 2)
                    .ok_or_else(|| self.error(start, "\\x takes two hexadecimal digits"))
            }
            _ => Err(self.error(start, r#"unknown escape; there are \n \r \t \0 \\ \' \" \xNN"#)),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
