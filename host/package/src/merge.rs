//! From text to an unchecked manifest: JSON objects or TOML are read as parts in which everything is
//! optional, parts are merged, and defaults are filled in. Bounds are checked in `check`.

use serde::Deserialize;

use crate::error::ManifestError;
use crate::field::Field;
use crate::manifest::{Event, Handler, Limits, MANIFEST_BYTES_MAX, Manifest, Map, MapType, Param};
use crate::params::{ParamType, ParamValue};

/// Entries of a hash map that does not say how many.
const HASH_ENTRIES: u32 = 1024;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    abi: Option<u32>,
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    #[serde(default)]
    handlers: Vec<HandlerPart>,
    #[serde(default)]
    params: Vec<ParamPart>,
    #[serde(default)]
    maps: Vec<MapPart>,
    #[serde(default)]
    events: Vec<EventPart>,
    #[serde(default)]
    limits: LimitsPart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandlerPart {
    name: String,
    #[serde(default)]
    points: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamPart {
    name: String,
    #[serde(rename = "type")]
    ty: ParamType,
    default: Option<ParamValue>,
    #[serde(default)]
    about: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapPart {
    name: String,
    kind: MapType,
    entries: Option<u32>,
    #[serde(default)]
    key: Vec<Field>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    precision: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventPart {
    name: String,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsPart {
    fuel: Option<u64>,
    memory_bytes: Option<u64>,
}

/// The ABI version alone, from a manifest of which nothing else is understood.
#[derive(Deserialize)]
struct AbiOnly {
    abi: Option<u64>,
}

/// Reads the contents of all manifest sections of a module, in order.
pub(crate) fn from_json(sections: &[&[u8]]) -> Result<Manifest, ManifestError> {
    let bytes = sections.iter().fold(0usize, |sum, s| sum.saturating_add(s.len()));
    if bytes > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes });
    }
    let objects = objects(sections)?;
    // The version first: a later ABI may have fields that are unknown here, and that is not what is wrong.
    for object in &objects {
        refuse_newer(serde_json::from_slice::<AbiOnly>(object).ok())?;
    }
    let mut whole = Part::default();
    for object in objects {
        let mut json = serde_json::Deserializer::from_slice(object);
        let part: Part = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| ManifestError::field(path(&e), e.inner().to_string()))?;
        whole.append(part)?;
    }
    whole.complete()
}

/// Reads a `probe.toml`.
pub(crate) fn from_toml(text: &str) -> Result<Manifest, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: text.len() });
    }
    let syntax = |e: toml::de::Error| ManifestError::field(".", e.to_string().trim_end().to_owned());
    refuse_newer(toml::from_str::<AbiOnly>(text).ok())?;
    let document = toml::Deserializer::parse(text).map_err(syntax)?;
    let part: Part = serde_path_to_error::deserialize(document)
        .map_err(|e| ManifestError::field(path(&e), e.inner().to_string().trim_end().to_owned()))?;
    part.complete()
}

/// Splits the sections into their JSON objects. White space and NUL bytes between objects are skipped:
/// assemblers terminate strings with NUL.
fn objects<'a>(sections: &[&'a [u8]]) -> Result<Vec<&'a [u8]>, ManifestError> {
    let mut found = Vec::new();
    for section in sections {
        let mut rest: &[u8] = section;
        loop {
            let blank = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0).count();
            rest = rest.get(blank..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<serde::de::IgnoredAny>();
            if let Some(Err(e)) = stream.next() {
                return Err(ManifestError::field(".", format!("not JSON: {e}")));
            }
            let (object, after) = rest.split_at_checked(stream.byte_offset()).unwrap_or((rest, &[]));
            if object.is_empty() {
                return Err(ManifestError::field(".", "not JSON"));
            }
            found.push(object);
            rest = after;
        }
    }
    if found.is_empty() {
        return Err(ManifestError::field(".", "the section `trocar.manifest` is empty"));
    }
    Ok(found)
}

fn refuse_newer(seen: Option<AbiOnly>) -> Result<(), ManifestError> {
    match seen.and_then(|a| a.abi) {
        Some(found) if found > u64::from(trocar_abi::VERSION) => Err(ManifestError::NewerAbi { found }),
        _ => Ok(()),
    }
}

fn path<E>(error: &serde_path_to_error::Error<E>) -> String {
    error.path().to_string()
}

/// Takes a value over unless another one is there already.
fn once<T: PartialEq>(field: &str, to: &mut Option<T>, from: Option<T>) -> Result<(), ManifestError> {
    match (&to, from) {
        (Some(old), Some(new)) if *old != new => Err(ManifestError::field(
            field,
            "two parts of the manifest give it different values; give it once",
        )),
        (None, Some(new)) => {
            *to = Some(new);
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Part {
    fn append(&mut self, other: Self) -> Result<(), ManifestError> {
        once("abi", &mut self.abi, other.abi)?;
        once("name", &mut self.name, other.name)?;
        once("version", &mut self.version, other.version)?;
        once("description", &mut self.description, other.description)?;
        once("limits.fuel", &mut self.limits.fuel, other.limits.fuel)?;
        once("limits.memory_bytes", &mut self.limits.memory_bytes, other.limits.memory_bytes)?;
        self.handlers.extend(other.handlers);
        self.params.extend(other.params);
        self.maps.extend(other.maps);
        self.events.extend(other.events);
        Ok(())
    }

    fn complete(self) -> Result<Manifest, ManifestError> {
        let abi = self.abi.ok_or(ManifestError::MissingAbi)?;
        let name = self.name.ok_or_else(|| ManifestError::field("name", "missing"))?;
        let mut manifest = Manifest::default_for(&name);
        manifest.abi = abi;
        manifest.name = name;
        if let Some(version) = self.version {
            manifest.version = version;
        }
        manifest.description = self.description.unwrap_or_default();
        if !self.handlers.is_empty() {
            manifest.handlers =
                self.handlers.into_iter().map(|h| Handler { name: h.name, points: h.points }).collect();
        }
        manifest.params = self
            .params
            .into_iter()
            .map(|p| Param { name: p.name, ty: p.ty, default: p.default, about: p.about })
            .collect();
        manifest.maps = self.maps.into_iter().map(MapPart::complete).collect();
        manifest.events = self.events.into_iter().map(|e| Event { name: e.name, fields: e.fields }).collect();
        manifest.limits = Limits { fuel: self.limits.fuel, memory_bytes: self.limits.memory_bytes };
        Ok(manifest)
    }
}

impl MapPart {
    fn complete(self) -> Map {
        let entries = self.entries.unwrap_or_else(|| match self.kind {
            // A counter map with labels and no number has one entry for each label.
            MapType::Counter => u32::try_from(self.labels.len().max(1)).unwrap_or(u32::MAX),
            MapType::Hist => 1,
            MapType::Hash => HASH_ENTRIES,
        });
        Map {
            name: self.name,
            kind: self.kind,
            entries,
            key: self.key,
            labels: self.labels,
            precision: self.precision,
        }
    }
}
