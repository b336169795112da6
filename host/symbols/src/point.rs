//! What the user writes to name a place in a program, as data.
//!
//! The grammar is the contract's ("Points"), read in its order:
//! 1. a keyword: `return:`, `usdt:`, `import:`
//! 2. `0xADDRESS`, an address in the process
//! 3. `FILE:LINE`, where LINE is all digits
//! 4. the whole text as an exact name
//! 5. `MODULE:REST` at the first `:` that is not part of `::`
//! 6. a pattern
//!
//! Steps 4 to 6 depend on which names there are, so that a [`Place`] keeps the whole text besides its parts and the
//! resolver decides. REST and a text without a module are `NAME`, `NAME+0xOFFSET`, or (REST only) `0xVADDR`.

use std::fmt;

/// A point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// A function's entry, or an instruction.
    Place(Place),
    /// All exits of a function.
    Return(Place),
    /// A source line.
    Line {
        /// The file as it was written: a name or the end of a path.
        file: String,
        /// The line, from one.
        line: u32,
    },
    /// USDT markers.
    Usdt {
        /// Their provider or a pattern of it, if it was named.
        provider: Option<String>,
        /// Their name or a pattern.
        marker: String,
    },
    /// Calls that modules make through their import tables.
    Import {
        /// The module that makes the calls, or provides the function, if one was named.
        module: Option<String>,
        /// The function.
        function: String,
    },
}

/// A place in code, by name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The whole text, which may be one exact name.
    pub text: String,
    /// The module's name or a pattern of it, as it was written.
    pub module: Option<String>,
    /// Where in the module, or anywhere.
    pub spot: Spot,
}

/// Where in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A name or a pattern, and the offset from it.
    Name {
        /// The name as it was written, escapes and all.
        name: String,
        /// Bytes behind the function's first one.
        offset: u64,
    },
    /// An address: the file's if there is a module, else the process'.
    Address(u64),
}

/// Why a text is no point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Nothing was written.
    #[error("a point is missing")]
    Empty,
    /// A part is missing.
    #[error("\"{text}\": {what} is missing")]
    Missing {
        /// The whole text.
        text: String,
        /// The part.
        what: &'static str,
    },
    /// A number is not one, or too large.
    #[error("\"{text}\": {number} is not {expected}")]
    Number {
        /// The whole text.
        text: String,
        /// The number.
        number: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A line number that is zero or too large.
    #[error("\"{text}\": {number} is not a line number")]
    Line {
        /// The whole text.
        text: String,
        /// The number.
        number: String,
    },
    /// An offset where there can be none.
    #[error("\"{text}\": return: takes a whole function, without an offset")]
    ReturnOffset {
        /// The whole text.
        text: String,
    },
}

impl PointError {
    /// The next step: what a point looks like.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::Missing { .. } => {
                "for example: processCommand, redis-server:processCommand, libc.so.6:mall*, processCommand+0x1c, usdt:PROVIDER:NAME"
            }
            Self::Line { .. } => "lines count from one, as in server.c:1207",
            Self::Number { .. } => {
                "addresses and offsets are hexadecimal, as in processCommand+0x1c or redis-server:0x4f2a0"
            }
            Self::ReturnOffset { .. } => "for example: return:processCommand",
        }
    }
}

impl Point {
    /// Reads a point.
    ///
    /// # Errors
    /// See [`PointError`].
    pub fn parse(text: &str) -> Result<Self, PointError> {
        let text = text.trim();
        let missing = |what| PointError::Missing { text: text.into(), what };
        if text.is_empty() {
            return Err(PointError::Empty);
        }
        if let Some(rest) = text.strip_prefix("return:") {
            if rest.is_empty() {
                return Err(missing("the function"));
            }
            let place = place(rest)?;
            if matches!(place.spot, Spot::Name { offset, .. } if offset != 0) {
                return Err(PointError::ReturnOffset { text: text.into() });
            }
            return Ok(Self::Return(place));
        }
        if let Some(rest) = text.strip_prefix("usdt:") {
            let (provider, marker) = split_module(rest).map_or((None, rest), |(p, m)| (Some(p), m));
            if marker.is_empty() || provider.is_some_and(str::is_empty) {
                return Err(missing("PROVIDER:NAME"));
            }
            return Ok(Self::Usdt { provider: provider.map(Into::into), marker: marker.into() });
        }
        if let Some(rest) = text.strip_prefix("import:") {
            let (module, function) = split_module(rest).map_or((None, rest), |(m, f)| (Some(m), f));
            if function.is_empty() || module.is_some_and(str::is_empty) {
                return Err(missing("the function"));
            }
            return Ok(Self::Import { module: module.map(Into::into), function: function.into() });
        }
        if !text.starts_with("0x")
            && let Some((file, line)) = source_line(text)
        {
            let number = line.parse().ok().filter(|n| *n > 0);
            let line = number.ok_or_else(|| PointError::Line { text: text.into(), number: line.into() })?;
            return Ok(Self::Line { file: file.into(), line });
        }
        place(text).map(Self::Place)
    }

    /// The place, if the point is one or the exits of one.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Place(place) | Self::Return(place) => Some(place),
            Self::Line { .. } | Self::Usdt { .. } | Self::Import { .. } => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => f.write_str(&place.text),
            Self::Return(place) => write!(f, "return:{}", place.text),
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Usdt { provider: Some(provider), marker } => write!(f, "usdt:{provider}:{marker}"),
            Self::Usdt { provider: None, marker } => write!(f, "usdt:{marker}"),
            Self::Import { module: Some(module), function } => write!(f, "import:{module}:{function}"),
            Self::Import { module: None, function } => write!(f, "import:{function}"),
        }
    }
}

fn place(text: &str) -> Result<Place, PointError> {
    let (module, rest) = split_module(text).map_or((None, text), |(module, rest)| (Some(module), rest));
    let missing = |what| PointError::Missing { text: text.into(), what };
    if module.is_some_and(str::is_empty) {
        return Err(missing("the module before the colon"));
    }
    if rest.is_empty() {
        return Err(missing("the name after the colon"));
    }
    Ok(Place { text: text.into(), module: module.map(Into::into), spot: spot(text, rest)? })
}

fn spot(text: &str, rest: &str) -> Result<Spot, PointError> {
    let number =
        |number: &str, expected| PointError::Number { text: text.into(), number: number.into(), expected };
    if rest.starts_with("0x") {
        return hex(rest).map(Spot::Address).ok_or_else(|| number(rest, "a hexadecimal address"));
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(number(rest, "a name; an address starts with 0x"));
    }
    if let Some((name, offset)) = rest.rsplit_once('+')
        && !name.is_empty()
        && !name.ends_with("operator")
        && offset.starts_with(|c: char| c.is_ascii_digit())
    {
        let offset = hex(offset).ok_or_else(|| number(offset, "a hexadecimal offset"))?;
        return Ok(Spot::Name { name: name.into(), offset });
    }
    Ok(Spot::Name { name: rest.into(), offset: 0 })
}

/// `0x…`, up to 64 bits.
fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // from_str_radix would take a sign.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, 16).ok() }
}

/// Splits at the first colon that is not part of `::`; of three in a row the first one is single.
fn split_module(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(':')?;
        let run = text.get(at..)?.bytes().take_while(|b| *b == b':').count();
        if run % 2 == 1 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        from = at + run;
    }
}

fn source_line(text: &str) -> Option<(&str, &str)> {
    let (file, line) = text.rsplit_once(':')?;
    let digits = !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit());
    (digits && !file.is_empty() && !file.ends_with(':')).then_some((file, line))
}
