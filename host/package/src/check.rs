//! The bounds of a manifest. Every limit has a name here, and every refusal names the field.

use std::collections::BTreeSet;

use trocar_abi::map::{ENTRIES_MAX, KEY_MAX, MAPS_MAX, PRECISION_MAX};
use trocar_abi::record::PAYLOAD_MAX;

use crate::error::ManifestError;
use crate::field::{self, Field, FieldType};
use crate::layout;
use crate::manifest::{Event, Handler, Limits, Manifest, Map, MapType, Param};

/// Longest name of a probe, parameter, map or event, in bytes.
pub(crate) const NAME_MAX: usize = 64;
/// Longest label or name of a field or handler, in bytes.
const LABEL_MAX: usize = 128;
/// Longest text for people, or point, in bytes.
const TEXT_MAX: usize = 1024;
/// Most handlers.
const HANDLERS_MAX: usize = 64;
/// Most default points of one handler.
const POINTS_MAX: usize = 256;
/// Most parameters.
const PARAMS_MAX: usize = 64;
/// Most event schemas.
const EVENTS_MAX: usize = 256;
/// Most fields of one event or key.
const FIELDS_MAX: usize = 64;
/// Most fuel that may be asked for one hit: about 6 ms.
const FUEL_MAX: u64 = 10_000_000;
/// Most linear memory that may be asked for one instance, in bytes.
const MEMORY_MAX: u64 = 64 << 20;

type Checked = Result<(), ManifestError>;

/// The manifest itself, if all its fields are within their bounds.
pub(crate) fn checked(manifest: Manifest) -> Result<Manifest, ManifestError> {
    check(&manifest)?;
    Ok(manifest)
}

/// Checks all fields; the first wrong one is the error.
pub(crate) fn check(m: &Manifest) -> Checked {
    if m.abi > trocar_abi::VERSION {
        return Err(ManifestError::NewerAbi { found: m.abi.into() });
    }
    require(m.abi > 0, "abi", || "versions start at 1".into())?;
    name("name", &m.name)?;
    label("version", &m.version)?;
    text("description", &m.description)?;
    count("handlers", m.handlers.len(), HANDLERS_MAX)?;
    require(!m.handlers.is_empty(), "handlers", || "the list is empty".into())?;
    count("params", m.params.len(), PARAMS_MAX)?;
    count("maps", m.maps.len(), MAPS_MAX as usize)?;
    count("events", m.events.len(), EVENTS_MAX)?;
    for (i, h) in m.handlers.iter().enumerate() {
        handler(&format!("handlers[{i}]"), h)?;
    }
    for (i, p) in m.params.iter().enumerate() {
        param(&format!("params[{i}]"), p)?;
    }
    for (i, x) in m.maps.iter().enumerate() {
        map(&format!("maps[{i}]"), x)?;
    }
    for (i, e) in m.events.iter().enumerate() {
        event(&format!("events[{i}]"), e)?;
    }
    unique("handlers", m.handlers.iter().map(|h| h.name.as_str()))?;
    unique("params", m.params.iter().map(|p| p.name.as_str()))?;
    unique("maps", m.maps.iter().map(|x| x.name.as_str()))?;
    unique("events", m.events.iter().map(|e| e.name.as_str()))?;
    layout::check_total(m)?;
    limits(&m.limits)
}

/// Characters of names that users type on a command line.
pub(crate) const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn handler(at: &str, h: &Handler) -> Checked {
    label(&format!("{at}.name"), &h.name)?;
    count(&format!("{at}.points"), h.points.len(), POINTS_MAX)?;
    for (i, point) in h.points.iter().enumerate() {
        let at = format!("{at}.points[{i}]");
        require(!point.trim().is_empty(), &at, || "empty".into())?;
        text(&at, point)?;
    }
    Ok(())
}

fn param(at: &str, p: &Param) -> Checked {
    name(&format!("{at}.name"), &p.name)?;
    text(&format!("{at}.about"), &p.about)?;
    if let Some(default) = &p.default {
        let at = format!("{at}.default");
        require(default.ty() == p.ty, &at, || {
            format!("is of type {}, the parameter is of type {}", default.ty().name(), p.ty.name())
        })?;
        require(default.fits(), &at, || format!("longer than {} bytes", crate::params::STR_MAX))?;
    }
    Ok(())
}

fn map(at: &str, m: &Map) -> Checked {
    name(&format!("{at}.name"), &m.name)?;
    require((1..=ENTRIES_MAX).contains(&m.entries), &format!("{at}.entries"), || {
        format!("{} is outside 1 to {ENTRIES_MAX}", m.entries)
    })?;
    let key = format!("{at}.key");
    if m.kind == MapType::Hash {
        require(!m.key.is_empty(), &key, || "a hash map needs at least one key field".into())?;
        fields(&key, &m.key, KEY_MAX)?;
    } else {
        require(m.key.is_empty(), &key, || format!("a {} map has no key", m.kind.kind().name()))?;
    }
    let labels = format!("{at}.labels");
    require(m.labels.is_empty() || m.kind == MapType::Counter, &labels, || {
        "only counter maps have labels".into()
    })?;
    let precision = format!("{at}.precision");
    require(m.precision == 0 || m.kind == MapType::Hist, &precision, || {
        "only hist maps have a precision".into()
    })?;
    require(m.precision <= PRECISION_MAX, &precision, || {
        format!("{} is more than {PRECISION_MAX}", m.precision)
    })?;
    count(&labels, m.labels.len(), m.entries as usize)?;
    for (i, l) in m.labels.iter().enumerate() {
        label(&format!("{labels}[{i}]"), l)?;
    }
    unique(&labels, m.labels.iter().map(String::as_str))
}

fn event(at: &str, e: &Event) -> Checked {
    name(&format!("{at}.name"), &e.name)?;
    fields(&format!("{at}.fields"), &e.fields, PAYLOAD_MAX)
}

fn fields(at: &str, list: &[Field], bytes_max: u32) -> Checked {
    count(at, list.len(), FIELDS_MAX)?;
    for (i, f) in list.iter().enumerate() {
        label(&format!("{at}[{i}].name"), &f.name)?;
        let at = format!("{at}[{i}].bytes");
        match (f.ty, f.bytes) {
            (FieldType::Str, None) => {
                return Err(ManifestError::field(at, "missing: a str field has a fixed number of bytes"));
            }
            (FieldType::Str, Some(n)) => {
                require((1..=bytes_max).contains(&n), &at, || format!("{n} is outside 1 to {bytes_max}"))?;
            }
            (_, Some(_)) => {
                return Err(ManifestError::field(at, "only a str field has `bytes`"));
            }
            (_, None) => {}
        }
    }
    let total = field::size(list);
    require(total <= u64::from(bytes_max), at, || {
        format!("{total} bytes together are more than the {bytes_max} that are allowed")
    })?;
    unique(at, list.iter().map(|f| f.name.as_str()))
}

fn limits(l: &Limits) -> Checked {
    if let Some(fuel) = l.fuel {
        require((1..=FUEL_MAX).contains(&fuel), "limits.fuel", || {
            format!("{fuel} is outside 1 to {FUEL_MAX}")
        })?;
    }
    if let Some(bytes) = l.memory_bytes {
        require(bytes <= MEMORY_MAX, "limits.memory_bytes", || {
            format!("{bytes} is more than the {MEMORY_MAX} that are allowed")
        })?;
    }
    Ok(())
}

fn require(holds: bool, field: &str, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(ManifestError::field(field, message())) }
}

fn count(field: &str, n: usize, max: usize) -> Checked {
    require(n <= max, field, || format!("{n} entries are more than the {max} that are allowed"))
}

fn name(field: &str, s: &str) -> Checked {
    require(!s.is_empty() && s.len() <= NAME_MAX && s.chars().all(is_name_char), field, || {
        format!("`{}` is not a name: 1 to {NAME_MAX} of letters, digits, `_`, `-`, `.`", short(s))
    })
}

fn label(field: &str, s: &str) -> Checked {
    require(!s.is_empty() && s.len() <= LABEL_MAX && !s.chars().any(char::is_control), field, || {
        format!("`{}` is not 1 to {LABEL_MAX} bytes of printable text", short(s))
    })
}

fn text(field: &str, s: &str) -> Checked {
    require(s.len() <= TEXT_MAX && !s.chars().any(char::is_control), field, || {
        format!("`{}` is not printable text of at most {TEXT_MAX} bytes", short(s))
    })
}

fn unique<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Checked {
    let mut seen = BTreeSet::new();
    for n in names {
        require(seen.insert(n), field, || format!("`{}` occurs twice", short(n)))?;
    }
    Ok(())
}

/// The start of a text from outside, safe to print.
fn short(s: &str) -> String {
    s.chars().take(40).collect::<String>().escape_debug().to_string()
}
