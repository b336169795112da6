//! From tokens to a typed tree: precedence climbing, with the rules of types where nodes are built.

use trocar_abi::hit::REGISTERS;

use crate::ast::{BYTES_MAX, Binary, Expr, Kind, Length, Node, STR_DEFAULT, Type, Unary, Width};
use crate::error::{ExprError, Span};
use crate::lex::{Tok, lex};

/// Longest text of an expression or template in bytes.
pub(crate) const TEXT_MAX: usize = 4096;
/// Deepest nesting.
const DEPTH_MAX: u32 = 64;
/// Most nodes of a tree.
const NODES_MAX: u32 = 512;
/// Most texts and buffers of a tree: each has room of its own in the probe's memory.
const TEXTS_MAX: u32 = 32;
/// Most arguments: of a USDT marker. Go passes nine in registers, C six; past those `arg` answers zero.
const ARGUMENTS: u32 = 12;
const _: () = assert!(ARGUMENTS as usize == trocar_abi::operand::ARGUMENTS);

/// Parses an expression.
///
/// # Errors
/// The first place that is not part of the language, or whose types do not fit.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    if text.len() > TEXT_MAX {
        return Err(ExprError::new("", 0..0, format!("an expression has at most {TEXT_MAX} bytes")));
    }
    parse_range(text, 0..text.len())
}

/// Parses the expression in a range of a text; places in errors are places in the whole text.
pub(crate) fn parse_range(text: &str, range: Span) -> Result<Expr, ExprError> {
    let tokens = lex(text, range.clone())?;
    let mut parser = Parser { text, tokens, at: 0, depth: 0, nodes: 0, texts: 0 };
    if *parser.peek() == Tok::End {
        return Err(ExprError::new(text, range, "an expression is missing here"));
    }
    let root = parser.expression(1)?;
    match parser.peek() {
        Tok::End => Ok(Expr { root, source: text.to_owned(), span: range }),
        Tok::Op("=") => Err(parser.error("`=` does not compare: write `==`")),
        Tok::Op("." | "->") => Err(parser.error(NO_VARIABLES)),
        _ => Err(parser.error("an operator or the end was expected here")),
    }
}

const NO_VARIABLES: &str = "variables and their fields need debug information, which this version does not read; \
    use $arg0, $ret, $reg.rdi and reads such as *(u32*)($arg0 + 16) or str($arg1)";

/// Binary operators and how strongly they bind.
const LEVELS: [(&str, Binary, u8); 18] = [
    ("||", Binary::OrOr, 1),
    ("&&", Binary::AndAnd, 2),
    ("==", Binary::Eq, COMPARISON),
    ("!=", Binary::Ne, COMPARISON),
    ("<", Binary::Lt, COMPARISON),
    ("<=", Binary::Le, COMPARISON),
    (">", Binary::Gt, COMPARISON),
    (">=", Binary::Ge, COMPARISON),
    ("|", Binary::Or, 4),
    ("^", Binary::Xor, 5),
    ("&", Binary::And, 6),
    ("<<", Binary::Shl, 7),
    (">>", Binary::Shr, 7),
    ("+", Binary::Add, 8),
    ("-", Binary::Sub, 8),
    ("*", Binary::Mul, 9),
    ("/", Binary::Div, 9),
    ("%", Binary::Rem, 9),
];
const COMPARISON: u8 = 3;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Tok, Span)>,
    at: usize,
    depth: u32,
    nodes: u32,
    texts: u32,
}

type Parsed = Result<Node, ExprError>;

impl Parser<'_> {
    fn peek(&self) -> &Tok {
        self.tokens.get(self.at).map_or(&Tok::End, |(t, _)| t)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0..0, |(_, s)| s.clone())
    }

    fn take(&mut self) -> (Tok, Span) {
        let span = self.span();
        let token = self.peek().clone();
        self.at += 1;
        (token, span)
    }

    fn error(&self, message: impl Into<String>) -> ExprError {
        self.error_at(self.span(), message)
    }

    fn error_at(&self, span: Span, message: impl Into<String>) -> ExprError {
        ExprError::new(self.text, span, message)
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(found) if *found == op)
    }

    fn expect(&mut self, op: &str) -> Result<Span, ExprError> {
        if self.is(op) { Ok(self.take().1) } else { Err(self.error(format!("`{op}` was expected here"))) }
    }

    fn node(&mut self, kind: Kind, span: Span, ty: Type) -> Parsed {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.error_at(span, format!("more than {NODES_MAX} parts; write a probe instead")));
        }
        Ok(Node { kind, span, ty })
    }

    /// Runs a rule one level deeper.
    fn deeper(&mut self, rule: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let node = rule(self);
        self.depth -= 1;
        node
    }

    fn expression(&mut self, weakest: u8) -> Parsed {
        let mut left = self.unary()?;
        let mut compared = false;
        while let Some((_, op, level)) = LEVELS.iter().find(|(text, ..)| self.is(text)) {
            if *level < weakest {
                break;
            }
            if *level == COMPARISON && compared {
                return Err(self.error("comparisons do not chain: write `a < b && b < c`"));
            }
            compared = *level == COMPARISON;
            self.take();
            let right = self.deeper(|p| p.expression(level + 1))?;
            left = self.binary(*op, left, right)?;
        }
        Ok(left)
    }

    fn binary(&mut self, op: Binary, a: Node, b: Node) -> Parsed {
        let span = a.span.start..b.span.end;
        let unsigned = a.is_unsigned() || b.is_unsigned();
        if matches!(op, Binary::Eq | Binary::Ne) && !a.is_int() && !b.is_int() {
            self.check_texts(&a, &b)?;
            return self.node(Kind::Binary(op, a.into(), b.into()), span, Type::Int { unsigned: false });
        }
        for side in [&a, &b] {
            if !side.is_int() {
                let message = "this is text where a number is needed; text can only be compared with == and != \
                     to other text";
                return Err(self.error_at(side.span.clone(), message));
            }
        }
        let ty = match op {
            Binary::Eq
            | Binary::Ne
            | Binary::Lt
            | Binary::Le
            | Binary::Gt
            | Binary::Ge
            | Binary::AndAnd
            | Binary::OrOr => Type::Int { unsigned: false },
            Binary::Shl | Binary::Shr => a.ty,
            Binary::Div | Binary::Rem if b.literal() == Some(0) => {
                return Err(self.error_at(b.span, "division by zero"));
            }
            Binary::Mul
            | Binary::Div
            | Binary::Rem
            | Binary::Add
            | Binary::Sub
            | Binary::And
            | Binary::Xor
            | Binary::Or => Type::Int { unsigned },
        };
        self.node(Kind::Binary(op, a.into(), b.into()), span, ty)
    }

    /// A comparison of texts that can never hold is a mistake, and one of two literals is pointless.
    fn check_texts(&self, a: &Node, b: &Node) -> Result<(), ExprError> {
        let (Some(a), Some(b)) = (most(a), most(b)) else {
            return Err(self.error_at(a.span.start..b.span.end, "both sides are constant"));
        };
        match (a, b) {
            (Bound::Exactly(n, span), Bound::AtMost(m)) | (Bound::AtMost(m), Bound::Exactly(n, span))
                if n > m =>
            {
                let message = format!(
                    "this text has {n} bytes, the other side at most {m}; give it a length, as in str(p, {n})"
                );
                Err(self.error_at(span, message))
            }
            (Bound::Exactly(..), Bound::Exactly(_, span)) => {
                Err(self.error_at(span, "both sides are constant"))
            }
            _ => Ok(()),
        }
    }

    fn unary(&mut self) -> Parsed {
        let start = self.span().start;
        let op = match self.peek() {
            Tok::Op("-") => Unary::Neg,
            Tok::Op("!") => Unary::Not,
            Tok::Op("~") => Unary::Complement,
            Tok::Op("*") => return self.read(),
            _ => return self.primary(),
        };
        self.take();
        let x = self.deeper(Self::unary)?;
        let span = start..x.span.end;
        if !x.is_int() {
            return Err(self.error_at(x.span, "this is text where a number is needed"));
        }
        // A negative literal is one literal: it matters to division.
        if let (Unary::Neg, Some(n), false) = (op, x.literal(), x.is_unsigned()) {
            return self.node(Kind::Int(n.wrapping_neg()), span, x.ty);
        }
        let ty = if op == Unary::Not { Type::Int { unsigned: false } } else { x.ty };
        self.node(Kind::Unary(op, x.into()), span, ty)
    }

    /// `*(TYPE*)address`
    fn read(&mut self) -> Parsed {
        const FORM: &str = "a read says its type: *(u32*)(address), with u8 i8 u16 i16 u32 i32 u64 or i64";
        let (_, star) = self.take();
        if !self.is("(") {
            return Err(self.error_at(star, FORM));
        }
        self.take();
        let (word, at) = self.take();
        let width = match &word {
            Tok::Word(w) => match w.as_str() {
                "u8" => Width::U8,
                "i8" => Width::I8,
                "u16" => Width::U16,
                "i16" => Width::I16,
                "u32" => Width::U32,
                "i32" => Width::I32,
                "u64" => Width::U64,
                "i64" => Width::I64,
                _ => return Err(self.error_at(at, FORM)),
            },
            _ => return Err(self.error_at(at, FORM)),
        };
        self.expect("*")?;
        self.expect(")")?;
        let address = self.deeper(Self::unary)?;
        let address = self.number(address, "an address")?;
        let span = star.start..address.span.end;
        self.node(Kind::Read(width, address.into()), span, Type::Int { unsigned: width == Width::U64 })
    }

    fn number(&self, node: Node, what: &str) -> Parsed {
        if node.is_int() {
            Ok(node)
        } else {
            Err(self.error_at(node.span, format!("{what} is a number, this is text")))
        }
    }

    fn primary(&mut self) -> Parsed {
        let signed = Type::Int { unsigned: false };
        let (token, span) = self.take();
        match token {
            Tok::Int { bits, above_i64 } => {
                self.node(Kind::Int(bits.cast_signed()), span, Type::Int { unsigned: above_i64 })
            }
            Tok::Text(bytes) if bytes.contains(&0) => {
                Err(self.error_at(span, "text ends at NUL and holds none"))
            }
            Tok::Text(bytes) => self.node(Kind::Text(bytes), span, Type::Str),
            Tok::Dollar(name) => {
                let kind = self.variable(&name, span.clone())?;
                self.node(kind, span, signed)
            }
            Tok::Op("(") => {
                let inner = self.deeper(|p| p.expression(1))?;
                let end = self.expect(")")?.end;
                Ok(Node { span: span.start..end, ..inner })
            }
            Tok::Word(name) if self.is("(") => self.call(&name, span),
            Tok::Word(_) => Err(self.error_at(span, NO_VARIABLES)),
            Tok::Op(_) | Tok::End => Err(self.error_at(span, "a value was expected here")),
        }
    }

    fn variable(&self, name: &str, span: Span) -> Result<Kind, ExprError> {
        if let Some(n) = name.strip_prefix("arg").and_then(|n| n.parse::<u32>().ok()) {
            return if n < ARGUMENTS {
                Ok(Kind::Arg(n))
            } else {
                Err(self.error_at(
                    span,
                    "arguments go from $arg0 to $arg11; those of C past $arg5 are on the stack",
                ))
            };
        }
        if let Some(register) = name.strip_prefix("reg.") {
            let number = REGISTERS.iter().position(|r| *r == register).and_then(|n| u32::try_from(n).ok());
            return number
                .map(Kind::Reg)
                .ok_or_else(|| self.error_at(span, format!("registers are {}", REGISTERS.join(" "))));
        }
        match name {
            "ret" => Ok(Kind::Ret),
            "tid" => Ok(Kind::Tid),
            "cpu" => Ok(Kind::Cpu),
            _ => Err(self.error_at(span, "there are $arg0 to $arg11, $ret, $reg.NAME, $tid and $cpu")),
        }
    }

    fn call(&mut self, name: &str, word: Span) -> Parsed {
        self.expect("(")?;
        let first = self.deeper(|p| p.expression(1))?;
        let mut second = None;
        if self.is(",") {
            self.take();
            second = Some(self.deeper(|p| p.expression(1))?);
        }
        let span = word.start..self.expect(")")?.end;
        match (name, second) {
            ("u", None) => {
                let x = self.number(first, "what u() takes")?;
                self.node(Kind::Unsigned(x.into()), span, Type::Int { unsigned: true })
            }
            ("str", length) => {
                let length = match length {
                    Some(n) => self.length(n)?,
                    None => Length::Fixed(STR_DEFAULT),
                };
                let address = self.number(first, "an address")?;
                self.text(Kind::Str(address.into(), length), span, Type::Str)
            }
            ("buf", Some(n)) => {
                let length = self.length(n)?;
                let address = self.number(first, "an address")?;
                self.text(Kind::Buf(address.into(), length), span, Type::Buf)
            }
            ("buf", None) => Err(self.error_at(span, "buf needs a length: buf(address, 16)")),
            ("u", Some(_)) => Err(self.error_at(span, "u takes one number: u($arg0)")),
            _ => Err(self.error_at(word, "there are the functions str(p), str(p, n), buf(p, n) and u(x)")),
        }
    }

    fn text(&mut self, kind: Kind, span: Span, ty: Type) -> Parsed {
        self.texts += 1;
        if self.texts > TEXTS_MAX {
            return Err(self.error_at(span, format!("more than {TEXTS_MAX} texts; write a probe instead")));
        }
        self.node(kind, span, ty)
    }

    fn length(&self, node: Node) -> Result<Length, ExprError> {
        let node = self.number(node, "a length")?;
        match node.literal() {
            None => Ok(Length::Computed(node.into())),
            Some(n) => u32::try_from(n)
                .ok()
                .filter(|n| (1..=BYTES_MAX).contains(n))
                .map(Length::Fixed)
                .ok_or_else(|| self.error_at(node.span, format!("a length is 1 to {BYTES_MAX}"))),
        }
    }
}

/// Bytes of a text.
enum Bound {
    Exactly(u32, Span),
    AtMost(u32),
}

fn most(node: &Node) -> Option<Bound> {
    match &node.kind {
        Kind::Text(bytes) => Some(Bound::Exactly(u32::try_from(bytes.len()).ok()?, node.span.clone())),
        Kind::Str(_, length) | Kind::Buf(_, length) => Some(Bound::AtMost(length.most())),
        _ => None,
    }
}
