//! Records: what a probe writes into its thread's ring.

/// Kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// `emit`: `tag` is the number of the event schema, the payload is as that schema says.
    Event = 1,
    /// `log`: `tag` is the level (0 error … 4 trace), the payload is text.
    Log = 2,
}

/// Head of a record; the payload follows, padded to eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHead {
    /// Bytes of the payload, without padding.
    pub len: u32,
    /// Number of a [`RecordKind`].
    pub kind: u16,
    /// Event schema, or log level.
    pub tag: u16,
    /// Index of the site.
    pub site: u32,
    /// Kernel's id of the thread, zero if unknown.
    pub tid: u32,
}
const _: () = assert!(size_of::<RecordHead>() == 16);

/// Longest payload of a record in bytes. A longer one traps.
pub const PAYLOAD_MAX: u32 = 4096;

impl RecordHead {
    /// The head as bytes in the ring (little endian, no holes).
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        let l = self.len.to_le_bytes();
        let k = self.kind.to_le_bytes();
        let g = self.tag.to_le_bytes();
        let s = self.site.to_le_bytes();
        let t = self.tid.to_le_bytes();
        [l[0], l[1], l[2], l[3], k[0], k[1], g[0], g[1], s[0], s[1], s[2], s[3], t[0], t[1], t[2], t[3]]
    }

    /// The head from bytes of the ring. Nothing is checked: the reader does that.
    #[must_use]
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self {
            len: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            kind: u16::from_le_bytes([b[4], b[5]]),
            tag: u16::from_le_bytes([b[6], b[7]]),
            site: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            tid: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        }
    }
}
