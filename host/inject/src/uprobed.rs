//! What a uprobe of the kernel makes of a jump of ours, and how the rest of the jump is taken away around it.

use std::io;

use trocar_patch::Patch;

use crate::memory::{RemoteAddress, RemoteMemory};

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Whether bytes of our jump are the kernel's: uprobes came after us, and put their breakpoints there, or went again, and left
/// the file's bytes. Nobody asks us, and the rest of our jump would stay between them.
pub(crate) fn uprobed(patch: &Patch, live: &[u8]) -> bool {
    let (ours, original) = (&patch.bytes, &patch.original);
    let is_theirs = |at: usize, byte: u8| byte == BREAKPOINT || original.get(at) == Some(&byte);
    let is_left = |at: usize, byte: u8| ours.get(at) == Some(&byte) && original.get(at) != Some(&byte);
    let bytes = || live.iter().copied().enumerate();
    live.len() == ours.len()
        && live != ours
        && bytes().any(|(at, byte)| is_left(at, byte))
        && bytes().all(|(at, byte)| is_left(at, byte) || is_theirs(at, byte))
}

/// Restores the bytes that are ours in what was read. No others are written: the kernel may take its breakpoints away at any
/// moment.
pub(crate) fn restore_around(memory: &RemoteMemory, patch: &Patch, live: &[u8]) -> io::Result<()> {
    let bytes: Vec<(bool, u8)> =
        live.iter().zip(&patch.bytes).map(|(live, ours)| live == ours).zip(patch.original.clone()).collect();
    let mut at = RemoteAddress(patch.address);
    for some in bytes.chunk_by(|(one, _), (next, _)| one == next) {
        if some.iter().all(|(is_ours, _)| *is_ours) {
            memory.write(at, &some.iter().map(|(_, original)| *original).collect::<Vec<u8>>())?;
        }
        at = at.plus(some.len() as u64);
    }
    Ok(())
}

/// Where somebody's breakpoints stand in text that is as it was but for these.
pub(crate) fn breakpoints_in(memory: &RemoteMemory, patch: &Patch) -> Vec<u64> {
    let live = memory.some(RemoteAddress(patch.address), patch.original.len());
    let bytes =
        || (patch.address..).zip(live.iter().zip(&patch.original)).filter(|(_, (live, was))| live != was);
    if live.len() < patch.original.len() || bytes().any(|(_, (live, _))| *live != BREAKPOINT) {
        return Vec::new();
    }
    bytes().map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: [u8; 6] = [0x53, 0x48, 0x89, 0xfb, 0x90, 0x90];
    const JUMP: [u8; 6] = [0xe9, 0x10, 0x89, 0x30, 0x40, 0x50];

    /// Memory of our own, with a jump of ours in it as far as others left it.
    fn live(bytes: &[u8; 6]) -> (Box<[u8; 6]>, RemoteMemory, Patch) {
        let text = Box::new(*bytes);
        let (bytes, original, before) = (JUMP.to_vec(), ORIGINAL.to_vec(), Vec::new());
        let patch = Patch { address: text.as_ptr().addr() as u64, bytes, original, before };
        (text, RemoteMemory::open(std::process::id().cast_signed()).unwrap(), patch)
    }

    #[test]
    fn around_any_number_of_uprobes_the_rest_of_the_jump_goes_and_nothing_else_is_written() {
        let cases: [(&[usize], &[usize]); 7] = [
            (&[0], &[]),
            (&[], &[0]),
            (&[0, 1], &[]),
            (&[0], &[1]),
            (&[1], &[0]),
            (&[0, 2, 4], &[1]),
            (&[5], &[]),
        ];
        for (breakpoints, gone) in cases {
            let mut bytes = JUMP;
            breakpoints.iter().for_each(|at| bytes[*at] = BREAKPOINT);
            gone.iter().for_each(|at| bytes[*at] = ORIGINAL[*at]);
            let (text, memory, patch) = live(&bytes);
            assert!(uprobed(&patch, &bytes), "{bytes:x?}");
            restore_around(&memory, &patch, &bytes).unwrap();
            let mut expected = ORIGINAL;
            breakpoints.iter().for_each(|at| expected[*at] = BREAKPOINT);
            assert_eq!(*std::hint::black_box(text), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn what_became_the_kernels_since_it_was_read_is_not_written() {
        let mut read = JUMP;
        read[0] = BREAKPOINT;
        // The breakpoint goes, and leaves the file's byte: here another one, to be told from ours.
        let (text, memory, patch) = live(&[0x77, 0x10, 0x89, 0x30, 0x40, 0x50]);
        restore_around(&memory, &patch, &read).unwrap();
        assert_eq!(*std::hint::black_box(text), [0x77, 0x48, 0x89, 0xfb, 0x90, 0x90]);
    }

    #[test]
    fn other_changes_are_none_of_a_uprobe() {
        let (_text, _, patch) = live(&JUMP);
        let mut other = JUMP;
        other[0] = BREAKPOINT;
        other[3] = 0x77;
        let mut restored = ORIGINAL;
        for bytes in [&JUMP[..], &ORIGINAL, &other, &JUMP[..5], &[]] {
            assert!(!uprobed(&patch, bytes), "{bytes:x?}");
        }
        restored[0] = BREAKPOINT;
        assert!(!uprobed(&patch, &restored), "nothing of ours is left");
    }

    #[test]
    fn breakpoints_are_found_in_text_that_is_as_it_was_but_for_them() {
        let found = |bytes: [u8; 6]| {
            let (_text, memory, patch) = live(&bytes);
            let at: Vec<u64> = breakpoints_in(&memory, &patch).iter().map(|at| at - patch.address).collect();
            at
        };
        let [mut one, mut two, mut moved] = [ORIGINAL; 3];
        one[0] = BREAKPOINT;
        (two[0], two[1]) = (BREAKPOINT, BREAKPOINT);
        (moved[0], moved[1]) = (BREAKPOINT, 0x77);
        assert_eq!(found(one), [0]);
        assert_eq!(found(two), [0, 1]);
        assert_eq!(found(moved), [0; 0]);
        assert_eq!(found(ORIGINAL), [0; 0]);
        assert_eq!(found(JUMP), [0; 0]);
    }
}
