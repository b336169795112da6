//! The template of a log line: text with expressions in braces.
//!
//! ```text
//! 'command {str($arg1)} of client {$arg0:x}, {{literal braces}}'
//! ```

use crate::ast::{Expr, Type};
use crate::error::{ExprError, Span};
use crate::lex::skip_quoted;
use crate::parse::{TEXT_MAX, parse_range};

/// Most expressions of a template.
const EXPRESSIONS_MAX: usize = 16;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) source: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(String),
    Value { expr: Expr, hex: bool },
}

impl Template {
    /// The template as the user wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.source
    }
}

/// Parses a template. `{expr}` shows a number in decimal, a text as it is, a buffer as hexadecimal bytes;
/// `{expr:x}` shows a number in hexadecimal; `{{` and `}}` are braces.
///
/// # Errors
/// A brace without its partner, or the first wrong place in an expression.
pub fn parse_template(text: &str) -> Result<Template, ExprError> {
    if text.len() > TEXT_MAX {
        return Err(ExprError::new("", 0..0, format!("a template has at most {TEXT_MAX} bytes")));
    }
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        if rest.starts_with("{{") || rest.starts_with("}}") {
            plain.push(c);
            at += 2;
        } else if c == '}' {
            return Err(ExprError::new(
                text,
                at..at + 1,
                "a brace without its partner; a literal one is `}}`",
            ));
        } else if c == '{' {
            let end = closing(text, at + 1)
                .ok_or_else(|| ExprError::new(text, at..at + 1, "the closing brace is missing"))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(value(text, at + 1..end)?);
            at = end + 1;
        } else {
            plain.push(c);
            at += c.len_utf8();
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    let values = pieces.iter().filter(|p| matches!(p, Piece::Value { .. })).count();
    if values > EXPRESSIONS_MAX {
        let message = format!("a template has at most {EXPRESSIONS_MAX} expressions, this one has {values}");
        return Err(ExprError::new(text, 0..text.len(), message));
    }
    Ok(Template { pieces, source: text.to_owned() })
}

/// The place of the brace that closes an expression which starts at `at`.
fn closing(text: &str, mut at: usize) -> Option<usize> {
    loop {
        match text.get(at..)?.chars().next()? {
            '}' => return Some(at),
            '"' | '\'' => at = skip_quoted(text, at),
            c => at += c.len_utf8(),
        }
    }
}

fn value(text: &str, range: Span) -> Result<Piece, ExprError> {
    let inner = text.get(range.clone()).unwrap_or_default();
    let (range, hex) = match inner.trim_end().strip_suffix(":x") {
        Some(before) => (range.start..range.start + before.len(), true),
        None => (range, false),
    };
    let expr = parse_range(text, range.clone())?;
    if hex && expr.ty() == Type::Str {
        return Err(ExprError::new(text, range, "text is shown as it is; :x is for numbers"));
    }
    Ok(Piece::Value { expr, hex })
}
