//! The tree of an expression. Nodes are typed when they are built, so that no wrong tree exists.

use crate::error::Span;

/// Type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A 64-bit number.
    Int {
        /// Whether comparison, division and right shift take it as unsigned.
        unsigned: bool,
    },
    /// Text that ends at NUL.
    Str,
    /// A range of bytes.
    Buf,
}

/// Most bytes of a text without a length of its own.
pub(crate) const STR_DEFAULT: u32 = 64;
/// Most bytes of a text or buffer.
pub(crate) const BYTES_MAX: u32 = 256;

/// An expression, parsed and typed.
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) root: Node,
    /// The whole text that was parsed, for errors.
    pub(crate) source: String,
    pub(crate) span: Span,
}

impl Expr {
    /// The type of its value.
    #[must_use]
    pub const fn ty(&self) -> Type {
        self.root.ty
    }

    /// Its text, as the user wrote it, without surrounding white space.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.get(self.span.clone()).unwrap_or_default().trim()
    }

    /// Whether computing it can fail: it reads memory or divides by something that may be zero.
    #[must_use]
    pub fn can_fail(&self) -> bool {
        self.root.can_fail()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub span: Span,
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Int(i64),
    Text(Vec<u8>),
    Arg(u32),
    Ret,
    Reg(u32),
    Tid,
    Cpu,
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Read(Width, Box<Node>),
    /// `u(x)`: the same bits.
    Unsigned(Box<Node>),
    Str(Box<Node>, Length),
    Buf(Box<Node>, Length),
}

/// Length of a text or buffer.
#[derive(Clone, Debug)]
pub(crate) enum Length {
    /// Known, 1 to [`BYTES_MAX`].
    Fixed(u32),
    /// Computed at the hit and held within 0 to [`BYTES_MAX`].
    Computed(Box<Node>),
}

impl Length {
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(n) => *n,
            Self::Computed(_) => BYTES_MAX,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Neg,
    Not,
    Complement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Mul,
    Div,
    Rem,
    Add,
    Sub,
    Shl,
    Shr,
    And,
    Xor,
    Or,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    AndAnd,
    OrOr,
}

/// Width and sign of a typed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
}

impl Width {
    pub const fn bytes(self) -> i32 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 => 4,
            Self::U64 | Self::I64 => 8,
        }
    }
}

impl Node {
    /// The number, if it is a literal.
    pub const fn literal(&self) -> Option<i64> {
        match self.kind {
            Kind::Int(n) => Some(n),
            _ => None,
        }
    }

    pub const fn is_int(&self) -> bool {
        matches!(self.ty, Type::Int { .. })
    }

    pub const fn is_unsigned(&self) -> bool {
        matches!(self.ty, Type::Int { unsigned: true })
    }

    fn can_fail(&self) -> bool {
        match &self.kind {
            Kind::Int(_)
            | Kind::Text(_)
            | Kind::Arg(_)
            | Kind::Ret
            | Kind::Reg(_)
            | Kind::Tid
            | Kind::Cpu => false,
            Kind::Read(..) | Kind::Str(..) | Kind::Buf(..) => true,
            Kind::Unary(_, x) | Kind::Unsigned(x) => x.can_fail(),
            Kind::Binary(op, a, b) => {
                (matches!(op, Binary::Div | Binary::Rem) && b.literal().is_none())
                    || a.can_fail()
                    || b.can_fail()
            }
        }
    }
}
