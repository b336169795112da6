//! What is wrong with an expression, and where in its text.

use std::fmt;

/// A range of bytes in the text of an expression.
pub type Span = std::ops::Range<usize>;

/// An expression that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// The place, in `text`.
    pub span: Span,
    /// What is wrong there, and what would be right.
    pub message: String,
    /// The text that was parsed.
    pub text: String,
}

impl ExprError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), text: text.to_owned() }
    }

    /// The text with a line of carets under the place, two lines without a final newline:
    ///
    /// ```text
    ///   $arg0 + foo
    ///           ^^^
    /// ```
    #[must_use]
    pub fn caret(&self) -> String {
        let width = |part: &str| part.chars().count();
        let before = self.text.get(..self.span.start).unwrap_or(&self.text);
        let inside = self.text.get(self.span.clone()).unwrap_or_default();
        // One column for each character, so that the carets stand where they should.
        let shown: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("  {shown}\n  {}{}", " ".repeat(width(before)), "^".repeat(width(inside).max(1)))
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.caret())
    }
}

impl std::error::Error for ExprError {}
