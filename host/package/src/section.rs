//! The custom section in a module: finding it, and putting it there. All other bytes stay as they are.

use std::borrow::Cow;

use trocar_abi::import::MANIFEST_SECTION;
use wasm_encoder::{CustomSection, Section};
use wasmparser::{Encoding, Parser, Payload};

use crate::error::ManifestError;
use crate::manifest::Manifest;

/// The contents of every manifest section of a module, in order.
pub(crate) fn manifest_sections(wasm: &[u8]) -> Result<Vec<&[u8]>, ManifestError> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(unreadable)? {
            Payload::CustomSection(s) if s.name() == MANIFEST_SECTION => found.push(s.data()),
            Payload::Version { encoding: Encoding::Component, .. } => return Err(component()),
            _ => {}
        }
    }
    Ok(found)
}

/// The module with this manifest in place of every manifest it had, as the last section. Doing it again
/// changes nothing.
///
/// # Errors
/// The module cannot be parsed, or the manifest is out of bounds.
pub fn attach_section(wasm: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    manifest.check()?;
    let json = manifest.to_section_json();
    if json.len() > crate::MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: json.len() });
    }
    let mut module = Vec::with_capacity(wasm.len() + json.len() + 32);
    // Everything up to `copied` is in `module`. A section starts where the one before it ended, so that
    // headers are copied as they are, however their linker padded them.
    let mut copied = 0usize;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(unreadable)?;
        if let Payload::Version { encoding, range, .. } = &payload {
            if *encoding == Encoding::Component {
                return Err(component());
            }
            module.extend_from_slice(wasm.get(copied..range.end).unwrap_or_default());
            copied = range.end;
            continue;
        }
        let is_manifest = matches!(&payload, Payload::CustomSection(s) if s.name() == MANIFEST_SECTION);
        if let Some((_, range)) = payload.as_section() {
            if !is_manifest {
                module.extend_from_slice(wasm.get(copied..range.end).unwrap_or_default());
            }
            copied = range.end;
        }
    }
    let section = CustomSection { name: MANIFEST_SECTION.into(), data: Cow::Borrowed(json.as_bytes()) };
    section.append_to(&mut module);
    Ok(module)
}

fn unreadable(e: wasmparser::Error) -> ManifestError {
    ManifestError::Module { offset: e.offset(), message: e.message().to_owned() }
}

fn component() -> ManifestError {
    ManifestError::Module { offset: 4, message: "this is a component, not a core module".into() }
}
