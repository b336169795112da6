//! Parameters: their types, their values, and how a user's texts become values.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::ParamError;
use crate::manifest::Manifest;

/// Longest value of a string parameter, in bytes.
pub(crate) const STR_MAX: usize = 4096;

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// A 64-bit integer, read with `param`.
    Int,
    /// A text, read with `param_str`.
    Str,
}

impl ParamType {
    /// The name in the manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Str => "str",
        }
    }
}

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// A 64-bit integer. Values of 2^63 and above are kept as their bits.
    Int(i64),
    /// A text.
    Str(String),
}

impl ParamValue {
    /// The type of this value.
    #[must_use]
    pub const fn ty(&self) -> ParamType {
        match self {
            Self::Int(_) => ParamType::Int,
            Self::Str(_) => ParamType::Str,
        }
    }

    /// Whether a text is within its limit.
    pub(crate) fn fits(&self) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Str(s) => s.len() <= STR_MAX,
        }
    }
}

impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ParamValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<ParamValue, E> {
                Ok(ParamValue::Int(v))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<ParamValue, E> {
                Ok(ParamValue::Int(v.cast_signed()))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<ParamValue, E> {
                Ok(ParamValue::Str(v.to_owned()))
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Manifest {
    /// The values of all parameters, in the order of their numbers: those in `sets` (name and text; the last
    /// of several wins), else the defaults.
    ///
    /// Integers are decimal or, after `0x`, hexadecimal, with a sign if wanted; anything from -2^63 to
    /// 2^64-1, the upper half as its bits.
    ///
    /// # Errors
    /// A name that does not exist, a text that is no value, a parameter without value.
    pub fn resolve_params(&self, sets: &[(&str, &str)]) -> Result<Vec<ParamValue>, ParamError> {
        for (name, _) in sets {
            if !self.params.iter().any(|p| p.name == *name) {
                return Err(ParamError::Unknown {
                    name: (*name).to_owned(),
                    exist: self.params.iter().map(|p| p.name.clone()).collect(),
                });
            }
        }
        self.params
            .iter()
            .map(|param| {
                let given = sets.iter().rev().find(|(name, _)| *name == param.name);
                match (given, &param.default) {
                    (Some((_, text)), _) => value(param.ty, text).map_err(|message| ParamError::Invalid {
                        name: param.name.clone(),
                        text: text.chars().take(80).collect(),
                        message,
                    }),
                    (None, Some(default)) => Ok(default.clone()),
                    (None, None) => Err(ParamError::Missing { name: param.name.clone() }),
                }
            })
            .collect()
    }
}

fn value(ty: ParamType, text: &str) -> Result<ParamValue, &'static str> {
    match ty {
        ParamType::Int => integer(text).map(ParamValue::Int),
        ParamType::Str if text.len() > STR_MAX => Err("too long: at most 4096 bytes"),
        ParamType::Str if text.contains('\0') => Err("not usable: it contains NUL"),
        ParamType::Str => Ok(ParamValue::Str(text.to_owned())),
    }
}

fn integer(text: &str) -> Result<i64, &'static str> {
    const NO_NUMBER: &str = "no integer: write it as 88, -1 or 0x58";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    // `from_str_radix` takes a sign of its own, which has no place here.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NO_NUMBER);
    }
    let magnitude = u64::from_str_radix(digits, radix).map_err(|_| "too large for 64 bits")?;
    if negative {
        0i64.checked_sub_unsigned(magnitude).ok_or("too large for 64 bits")
    } else {
        Ok(magnitude.cast_signed())
    }
}
