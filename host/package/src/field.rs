//! Fields of events and keys: packed, little endian, no alignment.
//!
//! ```text
//! fields = [argc: u64, command: str of 8]      payload:  88 00 00 00 00 00 00 00 'g' 'e' 't' 00 00 00 00 00
//! ```
//! The bytes come from a probe in a foreign process: nothing about them is taken for granted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 1 byte.
    I8,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    I64,
    /// IEEE 754 double, 8 bytes.
    F64,
    /// Unsigned, 8 bytes, shown in hexadecimal: an address, a set of flags.
    Hex64,
    /// Text of a fixed number of bytes, filled up with NUL.
    Str,
}

/// A field of an event or a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name in reports.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub ty: FieldType,
    /// Number of bytes of a `str`; `None` for every other type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

/// Value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A number to be shown in hexadecimal.
    Hex(u64),
    /// A float.
    Float(f64),
    /// Text up to the first NUL; bytes that are not UTF-8 are replaced by U+FFFD. Hostile: escape it.
    Text(String),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Uint(v) => write!(f, "{v}"),
            Self::Hex(v) => write!(f, "{v:#x}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Text(v) => write!(f, "{}", v.escape_debug()),
        }
    }
}

/// Bytes that do not fit the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Bytes that the schema has.
    pub expected: u64,
    /// Bytes that came.
    pub found: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes came where the schema has {}", self.found, self.expected)
    }
}

impl std::error::Error for DecodeError {}

impl Field {
    /// A field of any type but `str`.
    pub fn new(name: impl Into<String>, ty: FieldType) -> Self {
        Self { name: name.into(), ty, bytes: None }
    }

    /// A `str` field of this many bytes.
    pub fn text(name: impl Into<String>, bytes: u32) -> Self {
        Self { name: name.into(), ty: FieldType::Str, bytes: Some(bytes) }
    }

    /// Bytes of this field in a payload.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self.ty {
            FieldType::U8 | FieldType::I8 => 1,
            FieldType::U16 | FieldType::I16 => 2,
            FieldType::U32 | FieldType::I32 => 4,
            FieldType::U64 | FieldType::I64 | FieldType::F64 | FieldType::Hex64 => 8,
            FieldType::Str => self.bytes.unwrap_or(0),
        }
    }
}

impl crate::Event {
    /// Bytes of the payload of this event.
    #[must_use]
    pub fn size(&self) -> u64 {
        size(&self.fields)
    }

    /// Decodes the payload of an event; every byte of the schema must be there.
    ///
    /// # Errors
    /// The payload is shorter or longer than the schema.
    pub fn decode(&self, payload: &[u8]) -> Result<Vec<(String, FieldValue)>, DecodeError> {
        if payload.len() as u64 != self.size() {
            return Err(DecodeError { expected: self.size(), found: payload.len() });
        }
        decode_fields(&self.fields, payload)
    }
}

/// Bytes of all fields together.
pub(crate) fn size(fields: &[Field]) -> u64 {
    fields.iter().map(|f| u64::from(f.size())).sum()
}

/// Decodes packed fields, as in the key of a hash map. Bytes that are missing at the end count as zero;
/// for events, where they must not be missing, see [`crate::Event::decode`].
///
/// # Errors
/// There are more bytes than the fields have.
pub fn decode_fields(fields: &[Field], bytes: &[u8]) -> Result<Vec<(String, FieldValue)>, DecodeError> {
    let expected = size(fields);
    if bytes.len() as u64 > expected {
        return Err(DecodeError { expected, found: bytes.len() });
    }
    let mut rest = bytes;
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        let want = usize::try_from(field.size()).unwrap_or(usize::MAX);
        let (own, after) = rest.split_at_checked(want).unwrap_or((rest, &[]));
        rest = after;
        values.push((field.name.clone(), decode(field.ty, own)));
    }
    Ok(values)
}

/// Decodes one value from at most eight bytes, or from a text of any length.
fn decode(ty: FieldType, own: &[u8]) -> FieldValue {
    let mut b = [0u8; 8];
    for (to, from) in b.iter_mut().zip(own) {
        *to = *from;
    }
    let unsigned = u64::from_le_bytes(b);
    // Sign extension by shifting the sign bit to the top and back.
    let signed = |bits: u32| unsigned.wrapping_shl(64 - bits).cast_signed().wrapping_shr(64 - bits);
    match ty {
        FieldType::U8 | FieldType::U16 | FieldType::U32 | FieldType::U64 => FieldValue::Uint(unsigned),
        FieldType::I8 => FieldValue::Int(signed(8)),
        FieldType::I16 => FieldValue::Int(signed(16)),
        FieldType::I32 => FieldValue::Int(signed(32)),
        FieldType::I64 => FieldValue::Int(unsigned.cast_signed()),
        FieldType::F64 => FieldValue::Float(f64::from_bits(unsigned)),
        FieldType::Hex64 => FieldValue::Hex(unsigned),
        FieldType::Str => {
            let text = own.split(|b| *b == 0).next().unwrap_or_default();
            FieldValue::Text(String::from_utf8_lossy(text).into_owned())
        }
    }
}
