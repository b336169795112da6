//! Counts the commands of a redis-server by name, and writes an event for each large one.
//!
//! It runs at the entry of `processCommand(client *c)`, when the command is parsed and not yet looked up. Three reads
//! are the usual case: the piece of the client that holds the arguments, the first pointer of the argument array, and
//! the first argument with its text behind it. It relies on the layout of redis 7.0.15 for x86-64; where the client's
//! fields lie is a parameter.
//!
//! ```text
//! client            argv[]        object (robj)                          sds, when it is embedded
//! ┌──────────────┐  ┌────────┐    ┌──────────────────┬──────────┬──────┐ ┌─────┬───────┬───────┬──────────────┐
//! │ argc     +72 │ ┌▶ argv[0] ├──▶│ type, encoding   │ refcount │ ptr  │ │ len │ alloc │ flags │ text, NUL    │
//! │ argv     +80 ├─┘│ argv[1] │   │ +0               │ +4       │ +8   │ │ +16 │ +17   │ +18   │ +19          │
//! │ len sum +104 │  └────────┘    └──────────────────┴──────────┴──────┘ └─────┴───────┴───────┴──────────────┘
//! └──────────────┘                                                  └────────────────────────────▲
//! ```
#![no_std]

use trocar_probe_sdk::target::{u32_at, u64_at};
use trocar_probe_sdk::{Errno, Text, arg, manifest, probe, read_bytes, read_value};

manifest! {
    name: "redis-commands",
    version: env!("CARGO_PKG_VERSION"),
    description: "Counts the commands of a redis-server by name, and tells each large one",
    fuel: 15_000,
    params: {
        /// Offset of argc in struct client, in bytes.
        ARGC_OFFSET: int = 72,
        /// Offset of argv in struct client, in bytes.
        ARGV_OFFSET: int = 80,
        /// Offset of argv_len_sum in struct client, in bytes.
        ARGV_LEN_SUM_OFFSET: int = 104,
        /// A command with this many arguments, its name included, is large.
        LARGE_ARGC: int = 1000,
        /// A command whose arguments have this many bytes together is large.
        LARGE_BYTES: int = 10_240,
    },
    maps: {
        /// Calls by the name of the command, in lower case.
        COMMANDS: hash[1024] of Command { command: Text<32> },
        /// Hits that are in no row of the other map.
        SKIPPED: counter[3] = ["unreadable", "bad_offsets", "table_full"],
    },
    events: {
        /// A command with many arguments or many bytes.
        LargeCommand { command: Text<32>, argc: u64, bytes: u64 },
    },
}

/// Why a hit is not counted by name: an entry of [`SKIPPED`].
enum Skip {
    Unreadable = 0,
    BadOffsets = 1,
    TableFull = 2,
}

impl From<Errno> for Skip {
    fn from(_: Errno) -> Self {
        Self::Unreadable
    }
}

/// Bytes of a client that are read. All three fields lie within.
const CLIENT_BYTES: usize = 64;
/// Where the text begins in an object that holds it: behind 16 bytes of object and 3 of sds header.
const EMBEDDED_TEXT: usize = 19;
/// Where the length of such a text is.
const EMBEDDED_LEN: usize = 16;
/// Bytes of an object that are read: with them a name of 32 bytes is there whole.
const OBJECT_BYTES: usize = EMBEDDED_TEXT + 32;

#[probe(at = "redis-server:processCommand")]
fn on_hit() {
    if let Err(skip) = count(arg(0)) {
        SKIPPED.add(skip as u32, 1);
    }
}

/// Counts the command of a client.
fn count(client: u64) -> Result<(), Skip> {
    let offsets = [ARGC_OFFSET.get(), ARGV_OFFSET.get(), ARGV_LEN_SUM_OFFSET.get()];
    let first = offsets[0].min(offsets[1]).min(offsets[2]);
    let fields: [u8; CLIENT_BYTES] = read_bytes(client.wrapping_add(first))?;
    let [argc_at, argv_at, sum_at] =
        offsets.map(|offset| usize::try_from(offset - first).unwrap_or(usize::MAX));
    let argc = u64::from(u32_at(&fields, argc_at).ok_or(Skip::BadOffsets)?);
    let argv = u64_at(&fields, argv_at).ok_or(Skip::BadOffsets)?;
    let bytes = u64_at(&fields, sum_at).ok_or(Skip::BadOffsets)?;

    let command = name(read_value(argv)?)?.to_ascii_lowercase();
    if argc >= LARGE_ARGC.get() || bytes >= LARGE_BYTES.get() {
        LargeCommand { command, argc, bytes }.emit();
    }
    COMMANDS.add(&Command { command }, 1).map_err(|_| Skip::TableFull)
}

/// The text of a string object. Redis keeps short ones, as every name that a client library sends, right behind the
/// object; others (a command typed in by hand) lie elsewhere.
fn name(object: u64) -> Result<Text<32>, Skip> {
    let text = match read_bytes::<OBJECT_BYTES>(object) {
        Ok(copy) => {
            let text = u64_at(&copy, 8).ok_or(Skip::Unreadable)?;
            if text == object.wrapping_add(EMBEDDED_TEXT as u64) {
                let (_, bytes) = copy.split_last_chunk::<32>().ok_or(Skip::Unreadable)?;
                return Ok(Text::new(*bytes, copy[EMBEDDED_LEN].into()));
            }
            text
        }
        // A small object at the very end of mapped memory: what was asked for is more than there is.
        Err(_) => read_value(object.wrapping_add(8))?,
    };
    Ok(Text::read(text)?)
}
