//! USDT markers: places that a program's author named for tracers, from the notes that `sys/sdt.h` leaves.
//!
//! A note has the owner `stapsdt` and the type 3. Its content is three words and three texts:
//!
//! ```text
//! address of the marker │ address of .stapsdt.base at link time │ address of the semaphore, or zero
//! provider NUL │ name NUL │ arguments NUL
//! ```
//! The notes are not loaded, so nothing relocates them: where the section `.stapsdt.base` is now, against where it was at
//! link time, says by how much a tool (prelink) has moved the file's addresses since. A marker is a `nop`; one name may
//! stand at many places, because functions are inlined. The semaphore counts the tracers: a program may skip a marker, or
//! what prepares its arguments, while it is zero.
//! Source: the SystemTap wiki, "UserSpaceProbeImplementation"; the notes of Debian's files.

use crate::bytes::{c_string, slice, u32_at, u64_at};
use crate::elf::Elf;

/// Type of the notes, `_SDT_NOTE_TYPE`.
const STAPSDT: u32 = 3;
/// Most markers of a file.
const MARKERS: usize = 1 << 16;

/// A marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its provider, usually the program.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Address of its instruction in the file.
    pub vaddr: u64,
    /// Address of its semaphore in the file, if it has one.
    pub semaphore: Option<u64>,
    /// Its arguments, as the note writes them: `-4@%edi 8@-16(%rbp)`.
    pub arguments: String,
}

impl Elf {
    /// Its markers in the order of its notes. A note whose addresses are not those of code and of writable data is left
    /// out: the file is damaged.
    #[must_use]
    pub fn markers(&self) -> Vec<Marker> {
        let notes = self.section(b".note.stapsdt").and_then(|s| s.bytes(&self.bytes)).unwrap_or_default();
        let base = self.section(b".stapsdt.base").map(|s| s.address);
        let mut markers = Vec::new();
        let mut at = 0;
        while markers.len() < MARKERS
            && let Some((is_marker, content, next)) = note(notes, at)
        {
            if is_marker && let Some(marker) = marker(content, base).filter(|m| self.has(m)) {
                markers.push(marker);
            }
            at = next;
        }
        markers
    }

    fn has(&self, marker: &Marker) -> bool {
        let in_data = |at: u64| {
            let inside =
                |s: &&crate::Segment| at >= s.vaddr && at - s.vaddr < s.memory_size.saturating_sub(1);
            self.segments().iter().find(inside).is_some_and(|s| s.write && !s.execute)
        };
        self.is_text(marker.vaddr) && marker.semaphore.is_none_or(in_data)
    }
}

/// The note at an offset: whether it is a marker's, its content, and the offset of the next one.
fn note(notes: &[u8], at: u64) -> Option<(bool, &[u8], u64)> {
    let (name_size, size) = (u64::from(u32_at(notes, at)?), u64::from(u32_at(notes, at + 4)?));
    let name_at = at + 12;
    let content_at = name_at + name_size.next_multiple_of(4);
    let is_marker = u32_at(notes, at + 8)? == STAPSDT && slice(notes, name_at, name_size)? == b"stapsdt\0";
    Some((is_marker, slice(notes, content_at, size)?, content_at + size.next_multiple_of(4)))
}

fn marker(content: &[u8], base: Option<u64>) -> Option<Marker> {
    let (vaddr, base_then, semaphore) = (u64_at(content, 0)?, u64_at(content, 8)?, u64_at(content, 16)?);
    let moved = base.map_or(0, |now| now.wrapping_sub(base_then));
    let mut at = 24;
    let mut text = || {
        let bytes = c_string(content, at)?;
        at += bytes.len() as u64 + 1;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    let (provider, name) = (text()?, text()?);
    let arguments = text().unwrap_or_default();
    (!provider.is_empty() && !name.is_empty()).then(|| Marker {
        provider,
        name,
        vaddr: vaddr.wrapping_add(moved),
        semaphore: (semaphore != 0).then(|| semaphore.wrapping_add(moved)),
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(addresses: [u64; 3], texts: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = addresses.iter().flat_map(|a| a.to_le_bytes()).collect();
        bytes.extend(texts);
        bytes
    }

    #[test]
    fn addresses_follow_the_base() {
        let bytes = content([0x1000, 0x5000, 0x9000], b"shop\0order\0-4@%edi\0");
        let moved = marker(&bytes, Some(0x5100)).unwrap();
        assert_eq!((moved.vaddr, moved.semaphore), (0x1100, Some(0x9100)));
        assert_eq!((moved.provider, moved.name), ("shop".into(), "order".into()));
        assert_eq!(moved.arguments, "-4@%edi");
        // Without a section of that name nothing is known to have moved; no semaphore stays none.
        let plain = marker(&content([0x1000, 0x5000, 0], b"a\0b\0\0"), None).unwrap();
        assert_eq!((plain.vaddr, plain.semaphore, plain.arguments.as_str()), (0x1000, None, ""));
    }

    #[test]
    fn what_is_cut_off_is_no_marker() {
        let bytes = content([1, 2, 3], b"provider\0name\0");
        for end in 0..bytes.len() {
            assert_eq!(marker(&bytes[..end], None), None, "{end}");
        }
        assert_eq!(marker(&content([1, 2, 3], b"\0name\0\0"), None), None);
        let mut notes = vec![8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0];
        notes.extend(b"stapsdt\0");
        assert_eq!(note(&notes, 0), None);
        assert_eq!(note(&notes, u64::from(u32::MAX)), None);
    }
}
