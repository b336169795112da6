//! The host's end of a ring: reads what a hostile process wrote.
//!
//! Bytes are copied out of the shared memory first and looked at only in the copy. Every length is checked before
//! it is used; the first one that is wrong ends the ring, because nothing after it has a known place. Relies
//! on being the only consumer. It does not know what a record means: kind and tag are for the caller.

use core::fmt;

use trocar_abi::record::{PAYLOAD_MAX, RecordHead};

use crate::cursor::ReadCursor;
use crate::{SharedView, record_bytes};

/// Bytes of a record's head.
const HEAD: usize = size_of::<RecordHead>();

/// What is wrong with a ring. The target wrote it, or somebody wrote over it: the ring is not read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// The head is not between the tail and one capacity beyond it, or is no multiple of eight.
    Head {
        /// What the target says it has written, in bytes.
        head: u64,
        /// What the host has read, in bytes.
        tail: u64,
        /// Bytes of the ring.
        capacity: u64,
    },
    /// A record is longer than a record may be, or than what has been written.
    Length {
        /// Position of the record, in bytes since the ring's start.
        at: u64,
        /// Payload bytes that its head claims.
        len: u32,
        /// Bytes that were written from its position on.
        filled: u64,
    },
    /// The ring is not inside the shared memory any more. Its place was checked when the consumer was
    /// made, so this is a bug of ours.
    Place,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head { head, tail, capacity } => {
                write!(f, "ring head {head} is not within {capacity} bytes of tail {tail}")
            }
            Self::Length { at, len, filled } => write!(
                f,
                "record at ring position {at} claims {len} payload bytes, {filled} bytes are written there \
                 and {PAYLOAD_MAX} is the most"
            ),
            Self::Place => f.write_str("the ring is outside the shared memory"),
        }
    }
}

impl core::error::Error for Corrupt {}

/// The consuming end of one ring.
#[derive(Debug)]
pub struct Consumer {
    view: SharedView,
    head: u64,
    tail: u64,
    data: u64,
    capacity: u64,
    cursor: ReadCursor,
    failed: Option<Corrupt>,
}

impl Consumer {
    /// The consuming end of the ring whose head, tail and data are at these offsets in `view`, going on where
    /// the shared tail stands. `None` if any of them is outside the view or unaligned, or the capacity
    /// is no power of two of at least 64 bytes.
    #[must_use]
    pub fn new(view: SharedView, head: u64, tail: u64, data: u64, capacity: u64) -> Option<Self> {
        if !capacity.is_power_of_two() || capacity < 64 {
            return None;
        }
        view.word(head)?;
        view.word(data)?;
        view.word(data.checked_add(capacity - 8)?)?;
        let cursor = ReadCursor::new(view.load_u64(tail)?, capacity);
        Some(Self { view, head, tail, data, capacity, cursor, failed: None })
    }

    /// Hands at most `max` records to `f`, oldest first, and says how many. The payload slice is a copy and
    /// at most [`PAYLOAD_MAX`] long. Records written while this runs wait for the next call, so that a fast
    /// target cannot hold the host.
    ///
    /// # Errors
    /// [`Corrupt`], from then on at every call. Records before the fault have been handed out.
    pub fn drain(&mut self, max: usize, mut f: impl FnMut(RecordHead, &[u8])) -> Result<usize, Corrupt> {
        if let Some(fault) = self.failed {
            return Err(fault);
        }
        let result = self.drain_checked(max, &mut f);
        self.failed = result.err();
        result
    }

    /// What ended this ring, if something did.
    #[must_use]
    pub const fn fault(&self) -> Option<Corrupt> {
        self.failed
    }

    /// Drains one snapshot of the ring.
    fn drain_checked(&mut self, max: usize, f: &mut impl FnMut(RecordHead, &[u8])) -> Result<usize, Corrupt> {
        let head = self.view.word(self.head).ok_or(Corrupt::Place)?;
        let tail = self.view.word(self.tail).ok_or(Corrupt::Place)?;
        let mut filled = self.cursor.filled(head)?;
        if filled == 0 {
            return Ok(0);
        }
        let mut copy = [0u8; PAYLOAD_MAX as usize];
        let mut records = 0;
        while filled > 0 && records < max {
            let at = self.cursor.tail();
            let mut head_bytes = [0u8; HEAD];
            if filled < HEAD as u64 {
                return Err(Corrupt::Length { at, len: 0, filled });
            }
            self.copy(at, &mut head_bytes)?;
            let record = RecordHead::from_bytes(head_bytes);
            let bytes = record_bytes(record.len);
            let fault = Corrupt::Length { at, len: record.len, filled };
            if record.len > PAYLOAD_MAX || bytes > filled {
                return Err(fault);
            }
            let len = usize::try_from(record.len).map_err(|_| fault)?;
            let payload = copy.get_mut(..len).ok_or(fault)?;
            self.copy(at.wrapping_add(HEAD as u64), payload)?;
            // The copy is complete: the producer may have the bytes back before anyone looks at it.
            self.cursor.release(tail, bytes);
            filled -= bytes;
            records += 1;
            f(record, payload);
        }
        Ok(records)
    }

    /// Copies bytes of the ring from position `at`, in two parts where they cross its end.
    fn copy(&self, at: u64, out: &mut [u8]) -> Result<(), Corrupt> {
        let index = at & (self.capacity - 1);
        let until_end = usize::try_from(self.capacity - index).unwrap_or(usize::MAX);
        let (first, second) = out.split_at_mut(until_end.min(out.len()));
        self.view.copy_out(self.data + index, first).ok_or(Corrupt::Place)?;
        self.view.copy_out(self.data, second).ok_or(Corrupt::Place)
    }
}
