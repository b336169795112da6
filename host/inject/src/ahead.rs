//! Many small pieces of a stopped target's memory, read by one system call: each read through `/proc/PID/mem` takes a
//! microsecond and a half, and the target stands still meanwhile. What could not be read so is read there.
//!
//! Only what files hold is read so, the sites and the heads of modules; stacks never, nor any other memory that has no file
//! behind it. That may be registered with userfaultfd, so that a page of it comes from a thread which may be one of those
//! that we hold: `process_vm_readv` waits for it, and the target would stand still for ever, where `/proc/PID/mem` answers
//! EIO. What the mappings were just before a stop is good enough for this: every site has been read through
//! `/proc/PID/mem` by then, so its page is there.
#![expect(unsafe_code, reason = "process_vm_readv has no safe interface")]

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use libc::iovec;
use trocar_target::Mapping;

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

    /// Forgets what there is, and reads these pieces, by address and length, as far as there is room: those that lie in
    /// files, by these mappings. At the first that is not there whole it ends.
    pub(crate) fn read(
        &mut self,
        pid: libc::pid_t,
        maps: &[Mapping],
        pieces: impl Iterator<Item = (u64, usize)>,
    ) {
        self.pieces.clear();
        let mut remote: Vec<iovec> = Vec::new();
        let mut end = 0usize;
        for (address, len) in pieces.filter(|(address, len)| is_of_file(maps, *address, *len)) {
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

/// Whether the bytes lie in a file's own mapping. Shared memory has names like a file's, as have devices.
fn is_of_file(maps: &[Mapping], address: u64, len: usize) -> bool {
    let Some(end) = address.checked_add(len as u64) else { return false };
    let Some(mapping) = maps.partition_point(|m| m.start <= address).checked_sub(1).and_then(|n| maps.get(n))
    else {
        return false;
    };
    let is_none = |path: &[u8]| [&b"/dev/"[..], b"/memfd:", b"/SYSV"].iter().any(|of| path.starts_with(of));
    end <= mapping.end
        && mapping.is_file()
        && !mapping.shared
        && mapping.path.as_ref().is_some_and(|path| !is_none(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use trocar_target::maps;

    use super::*;

    fn own() -> libc::pid_t {
        std::process::id().cast_signed()
    }

    fn mapping(range: Range<u64>, path: &str) -> Mapping {
        Mapping {
            start: range.start,
            end: range.end,
            read: true,
            write: true,
            execute: false,
            shared: false,
            offset: 0,
            device: (8, 1),
            inode: 7,
            path: Some(path.into()),
            deleted: false,
        }
    }

    /// So that any memory will do.
    fn everywhere() -> Mapping {
        mapping(0..u64::MAX, "/usr/bin/program")
    }

    #[test]
    fn what_lies_in_no_file_is_not_read_and_what_comes_after_it_is() {
        static OF_FILE: [u8; 64] = [3; 64];
        let (heap, stack) = (vec![3u8; 64], std::hint::black_box([3u8; 64]));
        let [of_file, heap, stack] =
            [OF_FILE.as_ptr(), heap.as_ptr(), stack.as_ptr()].map(|at| at.addr() as u64);
        let mut ahead = Ahead::new();
        ahead.read(own(), &maps(own()).unwrap(), [heap, stack, of_file].map(|at| (at, 64)).into_iter());
        assert_eq!(ahead.bytes(heap, 1), None);
        assert_eq!(ahead.bytes(stack, 1), None);
        assert_eq!(ahead.bytes(of_file, 64), Some(&OF_FILE[..]));
    }

    #[test]
    fn a_file_is_what_one_private_mapping_of_it_holds_whole() {
        let of = |mapping: Mapping, at: u64, len: usize| is_of_file(&[mapping], at, len);
        let file = || mapping(0x1000..0x2000, "/tmp/program");
        assert!(of(file(), 0x1000, 0x1000));
        for (at, len) in [(0xfff, 1), (0x1fff, 2), (0x2000, 1), (u64::MAX, 1)] {
            assert!(!of(file(), at, len), "{at:#x}");
        }
        assert!(!of(Mapping { shared: true, ..file() }, 0x1000, 1));
        assert!(!of(Mapping { inode: 0, ..file() }, 0x1000, 1));
        for other in ["/dev/zero", "/dev/shm/a", "/memfd:code", "/SYSV00000000"] {
            assert!(!of(mapping(0x1000..0x2000, other), 0x1000, 1), "{other}");
        }
    }

    #[test]
    fn what_lies_in_a_piece_is_known_and_nothing_else() {
        let memory: Vec<u8> = (0..200).collect();
        let at = memory.as_ptr().addr() as u64;
        let mut ahead = Ahead::new();
        ahead.read(own(), &[everywhere()], [(at + 100, 50), (at, 10), (at, 20)].into_iter());
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
        ahead.read(own(), &[everywhere()], [(at, 8), (8, 8), (at + 8, 8)].into_iter());
        assert_eq!(ahead.bytes(at, 8), Some(&[7; 8][..]));
        assert_eq!(ahead.bytes(8, 8), None);
        assert_eq!(ahead.bytes(at + 8, 8), None);
        ahead.read(own(), &[everywhere()], [(8, 8)].into_iter());
        assert_eq!(ahead.bytes(at, 8), None);
    }

    #[test]
    fn what_has_no_room_is_left_out_and_what_comes_after_it_is_read() {
        let memory = vec![9u8; BYTES + 64];
        let at = memory.as_ptr().addr() as u64;
        let mut ahead = Ahead::new();
        ahead.read(
            own(),
            &[everywhere()],
            [(at, BYTES - 8), (at, BYTES), (at, usize::MAX), (at + 64, 8)].into_iter(),
        );
        assert_eq!(ahead.bytes(at, BYTES), None);
        assert_eq!(ahead.bytes(at + 64, 8), Some(&[9; 8][..]));
        let many = (0..2 * PIECES as u64).map(|n| (at + n, 1));
        ahead.read(own(), &[everywhere()], many);
        assert_eq!(ahead.bytes(at + PIECES as u64 - 1, 1), Some(&[9][..]));
        assert_eq!(ahead.bytes(at + PIECES as u64, 1), None);
    }
}
