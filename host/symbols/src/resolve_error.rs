//! Why a point names no place, in the user's words, with the next step.

use thiserror::Error;

/// Most candidates that a message spells out; the variant holds all.
const LISTED: usize = 20;

/// Why a point could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// Nothing has that name.
    #[error("nothing is named {name}{}{}", place(.module.as_deref()), stripped_note(.stripped))]
    Unknown {
        /// The name.
        name: String,
        /// The module that was asked for.
        module: Option<String>,
        /// Names that may have been meant, the nearest first.
        nearest: Vec<String>,
        /// Modules searched that have only exported names left.
        stripped: Vec<String>,
    },
    /// No marker has that name.
    #[error("no marker is named {name}{}", if *.any { "" } else { ": no module of the process has USDT markers" })]
    NoMarker {
        /// PROVIDER:NAME, or the name.
        name: String,
        /// Whether there are markers at all.
        any: bool,
        /// Markers that may have been meant, the nearest first.
        nearest: Vec<String>,
    },
    /// No module calls a function of that name through its import table.
    #[error("{} {name}{}", if *.imported { "no code goes through the import table to" } else { "no call goes through an import table to" }, place(.module.as_deref()))]
    NoImport {
        /// The name.
        name: String,
        /// The module that was asked for.
        module: Option<String>,
        /// It is imported all the same: by data, or by code that is not understood.
        imported: bool,
        /// Imports that may have been meant, the nearest first.
        nearest: Vec<String>,
    },
    /// No loaded module has that name.
    #[error("no module named {module} is loaded")]
    NoModule {
        /// The name or pattern.
        module: String,
        /// Names of the loaded modules that are nearest, or some of them.
        nearest: Vec<String>,
    },
    /// Several places have that name, and none is the one.
    #[error("{name} is ambiguous; it may be {}", list(.candidates))]
    Ambiguous {
        /// The name.
        name: String,
        /// Each as a point that names it alone.
        candidates: Vec<String>,
    },
    /// The offset leads out of the function.
    #[error("{name}+{offset:#x} is outside the function, which has {size} bytes")]
    OutsideFunction {
        /// The name.
        name: String,
        /// The offset.
        offset: u64,
        /// Bytes of the function.
        size: u64,
    },
    /// An address in code that no function covers.
    #[error("no code at {address}: no function covers it")]
    NoCode {
        /// The address as a point.
        address: String,
        /// The next function behind it, as a point.
        next: Option<String>,
    },
    /// An address that is not in the code of any module.
    #[error("{address} is outside text: {place}")]
    OutsideText {
        /// The address as a point.
        address: String,
        /// What is there.
        place: String,
    },
    /// A kind of point that this version does not know to resolve.
    #[error("{kind} points are not yet in this version")]
    NotYet {
        /// The kind.
        kind: &'static str,
    },
}

impl ResolveError {
    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest, .. } if nearest.is_empty() => {
                Some("look for names with: trocar points -p PID 'PATTERN*'".into())
            }
            Self::Unknown { nearest, .. } => Some(format!("the nearest names are: {}", nearest.join(", "))),
            Self::NoMarker { any: false, .. } => {
                Some("name a function: trocar points -p PID '*NAME*'".into())
            }
            Self::NoMarker { nearest, .. } if nearest.is_empty() => {
                Some("list the markers with: trocar points -p PID 'usdt:*'".into())
            }
            Self::NoMarker { nearest, .. } => {
                Some(format!("the nearest markers are: usdt:{}", nearest.join(", usdt:")))
            }
            Self::NoImport { imported: true, name, .. } => {
                Some(format!("probe the function itself: trocar points -p PID '{name}'"))
            }
            Self::NoImport { nearest, .. } if nearest.is_empty() => {
                Some("list what a module imports with: trocar points -p PID 'import:MODULE:*'".into())
            }
            Self::NoImport { nearest, .. } => {
                Some(format!("the nearest imports are: {}", nearest.join(", ")))
            }
            Self::NoModule { nearest, .. } => {
                Some(format!("loaded are, among others: {}", nearest.join(", ")))
            }
            Self::Ambiguous { candidates, .. } => {
                candidates.first().map(|first| format!("write one of them whole, for example: {first}"))
            }
            Self::NoCode { next: Some(next), .. } => Some(format!("the next function is at {next}")),
            Self::OutsideFunction { name, .. } => {
                Some(format!("see its instructions with: trocar points -p PID {name} --plan"))
            }
            Self::NoCode { next: None, .. } | Self::OutsideText { .. } => {
                Some("name a function, or MODULE:0xADDRESS as objdump prints it".into())
            }
            Self::NotYet { .. } => Some("use a function's name, NAME+0xOFFSET or MODULE:0xADDRESS".into()),
        }
    }
}

fn place(module: Option<&str>) -> String {
    module.map_or_else(String::new, |module| format!(" in {module}"))
}

fn stripped_note(stripped: &[String]) -> String {
    match stripped {
        [] => String::new(),
        [one] => format!(" ({one} is stripped: only the names that it exports are known)"),
        more => format!(" ({} modules are stripped: only the names that they export are known)", more.len()),
    }
}

fn list(candidates: &[String]) -> String {
    let listed: Vec<&str> = candidates.iter().take(LISTED).map(String::as_str).collect();
    let more = candidates.len().saturating_sub(LISTED);
    let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{tail}", listed.join(", "))
}
