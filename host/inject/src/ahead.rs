//! Many small pieces of a stopped target's memory, read by one system call: each read through `/proc/PID/mem` takes a
//! microsecond and a half, and the target stands still meanwhile. What could not be read so is read there.
#![expect(unsafe_code, reason = "process_vm_readv has no safe interface")]

use std::ops::Range;

use libc::iovec;

/// Most bytes that are read at once.
const BYTES: usize = 64 << 10;
/// Most pieces (`IOV_MAX` in `linux/limits.h`).
const PIECES: usize = 1024;

/// What was read.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// As long as anything that is read: made before a stop, so that none of its pages is new in it.
    buffer: Vec<u8>,
    /// Address of each piece, ascending, and where it lies in the buffer.
    pieces: Vec<(u64, Range<usize>)>,
}

impl Ahead {
    /// With nothing in it.
    pub(crate) fn new() -> Self {
        // Ones: the kernel gives zeros as pages that are not there yet.
        Self { buffer: vec![1; BYTES], pieces: Vec::with_capacity(PIECES) }
    }

    /// Forgets what there is, and reads these pieces, by address and length, as far as there is room. At the first that is
    /// not there whole it ends.
    pub(crate) fn read(&mut self, pid: libc::pid_t, pieces: impl Iterator<Item = (u64, usize)>) {
        self.pieces.clear();
        let mut remote: Vec<iovec> = Vec::new();
        let mut end = 0usize;
        for (address, len) in pieces {
            let Some(next) = end.checked_add(len).filter(|next| *next <= self.buffer.len()) else { continue };
            let Ok(base) = usize::try_from(address) else { continue };
            if self.pieces.len() == PIECES {
                break;
            }
            remote.push(iovec { iov_base: std::ptr::without_provenance_mut(base), iov_len: len });
            self.pieces.push((address, end..next));
            end = next;
        }
        let local = iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: end };
        // SAFETY: the kernel writes at most `end` bytes, which the buffer has and nobody else uses now; the addresses of the
        // other side are none of ours.
        let got = unsafe {
            libc::process_vm_readv(
                pid,
                &raw const local,
                1,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        // Refused (a filter of ours, a first thread that has ended): nothing is known.
        let got = usize::try_from(got).unwrap_or(0);
        self.pieces.retain(|(_, part)| part.end <= got);
        self.pieces.sort_unstable_by_key(|(address, part)| (*address, part.len()));
    }

    /// `len` bytes at `at`, if they are in a piece.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let before = self.pieces.partition_point(|(address, _)| *address <= at).checked_sub(1)?;
        let (address, part) = self.pieces.get(before)?;
        let from = usize::try_from(at - address).ok()?;
        self.buffer.get(part.clone())?.get(from..from.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> libc::pid_t {
        std::process::id().cast_signed()
    }

    #[test]
    fn what_lies_in_a_piece_is_known_and_nothing_else() {
        let memory: Vec<u8> = (0..200).collect();
        let at = memory.as_ptr().addr() as u64;
        let mut ahead = Ahead::new();
        ahead.read(own(), [(at + 100, 50), (at, 10), (at, 20)].into_iter());
        assert_eq!(ahead.bytes(at + 2, 18), memory.get(2..20), "of two that begin there, the longer one");
        assert_eq!(ahead.bytes(at + 100, 50), memory.get(100..150));
        assert_eq!(ahead.bytes(at + 149, 1), memory.get(149..150));
        assert_eq!(ahead.bytes(at + 2, 19), None);
        assert_eq!(ahead.bytes(at + 99, 2), None);
        assert_eq!(ahead.bytes(at + 149, 2), None);
        assert_eq!(ahead.bytes(at + 120, usize::MAX), None);
        assert_eq!(ahead.bytes(at - 1, 1), None);
    }

    #[test]
    fn a_piece_that_is_not_there_ends_it_and_the_next_reading_forgets_the_last() {
        let memory = [7u8; 64];
        let at = memory.as_ptr().addr() as u64;
        let mut ahead = Ahead::new();
        ahead.read(own(), [(at, 8), (8, 8), (at + 8, 8)].into_iter());
        assert_eq!(ahead.bytes(at, 8), Some(&[7; 8][..]));
        assert_eq!(ahead.bytes(8, 8), None);
        assert_eq!(ahead.bytes(at + 8, 8), None);
        ahead.read(own(), [(8, 8)].into_iter());
        assert_eq!(ahead.bytes(at, 8), None);
    }

    #[test]
    fn what_has_no_room_is_left_out_and_what_comes_after_it_is_read() {
        let memory = vec![9u8; BYTES + 64];
        let at = memory.as_ptr().addr() as u64;
        let mut ahead = Ahead::new();
        ahead.read(own(), [(at, BYTES - 8), (at, BYTES), (at, usize::MAX), (at + 64, 8)].into_iter());
        assert_eq!(ahead.bytes(at, BYTES), None);
        assert_eq!(ahead.bytes(at + 64, 8), Some(&[9; 8][..]));
        let many = (0..2 * PIECES as u64).map(|n| (at + n, 1));
        ahead.read(own(), many);
        assert_eq!(ahead.bytes(at + PIECES as u64 - 1, 1), Some(&[9][..]));
        assert_eq!(ahead.bytes(at + PIECES as u64, 1), None);
    }
}
