//! What can be wrong with a manifest or with the values given to its parameters. Every error names the field.

use std::fmt;

/// A manifest that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// The manifest names no ABI version.
    MissingAbi,
    /// The manifest was written for a later ABI than this build knows.
    NewerAbi {
        /// The version it names.
        found: u64,
    },
    /// The manifest is larger than [`crate::MANIFEST_BYTES_MAX`].
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// A field is wrong.
    Field {
        /// Path of the field, such as `maps[1].entries`.
        field: String,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// The module that should hold the manifest cannot be read.
    Module {
        /// Offset in the module, in bytes.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
}

impl ManifestError {
    /// A wrong field.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { field: clean(&field.into()), message: clean(&message.into()) }
    }

    /// The next step for the author of the probe.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::MissingAbi => "write `abi = 1` at the top of probe.toml, or \"abi\":1 in the section",
            Self::NewerAbi { .. } => "update trocar, or build the probe with an older SDK",
            Self::TooLarge { .. } => "shorten descriptions, labels and lists",
            Self::Field { .. } => "correct the field in probe.toml and run `trocar pack` again",
            Self::Module { .. } => "build the module again; if it was downloaded, download it again",
        }
    }
}

/// Longest part of a message in characters.
const PART_MAX: usize = 1000;

/// A part of a message that may hold text of the manifest: bounded, and without control characters but the
/// line feeds of TOML's messages.
fn clean(part: &str) -> String {
    let show =
        |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    part.chars().take(PART_MAX).map(show).collect()
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingAbi => f.write_str("manifest, field `abi`: missing"),
            Self::NewerAbi { found } => write!(
                f,
                "manifest, field `abi`: the probe wants ABI version {found}, this build knows version {}",
                trocar_abi::VERSION
            ),
            Self::TooLarge { bytes } => write!(
                f,
                "manifest: {bytes} bytes are more than the {} that are allowed",
                crate::MANIFEST_BYTES_MAX
            ),
            Self::Field { field, message } => write!(f, "manifest, field `{field}`: {message}"),
            Self::Module { offset, message } => {
                let message = clean(message);
                write!(f, "the module cannot be read at offset {offset:#x}: {message}")
            }
        }
    }
}

impl std::error::Error for ManifestError {}

/// A value for a parameter that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamError {
    /// The probe has no parameter of this name.
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that exist.
        exist: Vec<String>,
    },
    /// The text is no value of the parameter's type.
    Invalid {
        /// The parameter.
        name: String,
        /// The text that was given.
        text: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// The parameter has no default and no value was given.
    Missing {
        /// The parameter.
        name: String,
    },
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, exist } if exist.is_empty() => {
                write!(f, "the probe has no parameter `{}`: it has none at all", name.escape_debug())
            }
            Self::Unknown { name, exist } => {
                write!(
                    f,
                    "the probe has no parameter `{}`; it has {}",
                    name.escape_debug(),
                    exist.join(", ")
                )?;
                match crate::nearest(name, exist.iter().map(String::as_str)) {
                    Some(near) => write!(f, " (did you mean `{near}`?)"),
                    None => Ok(()),
                }
            }
            Self::Invalid { name, text, message } => {
                write!(f, "parameter `{name}`: `{}` is {message}", text.escape_debug())
            }
            Self::Missing { name } => {
                write!(f, "parameter `{name}` has no default: give it with --set {name}=VALUE")
            }
        }
    }
}

impl std::error::Error for ParamError {}
