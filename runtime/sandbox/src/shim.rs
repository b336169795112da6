//! What the runtimes of languages insist on (`trocar_abi::shim`): WASI for a process without files, and `env.abort`.
//!
//! The same rules hold as for host calls: nothing allocates, ranges are checked in 64 bits, and one outside linear
//! memory traps. What a probe prints is cut into lines, because runtimes print one in many pieces; a line is kept here
//! until it ends.
#![expect(unsafe_code, reason = "functions of one type for all take values that wasmtime does not check")]

use core::fmt::{self, Write};
use core::mem::MaybeUninit;

use trocar_abi::import::{BYTES_PER_FUEL, Ty};
use trocar_abi::record::RecordKind;
use trocar_abi::shim::errno::{BADF, INVAL, NOTSUP, SPIPE, SUCCESS};
use trocar_abi::shim::{ABORT, SHIM};
use wasmtime::{FuncType, Linker, Result, ValRaw, ValType};

use crate::host_call::{Probe, parts, range, range_mut, take, write_record};
use crate::instance::State;

/// Longest line that is kept together; what is longer becomes several.
const LINE: usize = 512;
/// Most pieces of one `fd_write`, and most subscriptions of one `poll_oneoff`.
const PIECES: u32 = 64;
/// Fuel for looking at one piece: two ranges are checked.
const PIECE: u64 = 8;
/// Most characters of each text that `abort` tells.
const ABORT_TEXT: usize = 120;

/// Levels of log lines.
const ERROR: u16 = 0;
const WARN: u16 = 1;
const INFO: u16 = 2;

/// The probe ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exited;

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the probe ended itself")
    }
}

impl core::error::Error for Exited {}

/// What the shim keeps for an instance.
pub(crate) struct ShimState {
    random: u64,
    line: Line,
}

impl ShimState {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { random: seed, line: Line::of(INFO) }
    }

    /// The next random number: splitmix64, which is even and fast, and which whoever sees one can continue.
    const fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A line of text that has not ended yet.
#[derive(Clone, Copy)]
struct Line {
    bytes: [u8; LINE],
    len: usize,
    level: u16,
}

impl Line {
    const fn of(level: u16) -> Self {
        Self { bytes: [0; LINE], len: 0, level }
    }

    /// Adds what fits.
    #[inline(never)]
    fn add(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let n = room.len().min(text.len());
        if let (Some(to), Some(from)) = (room.get_mut(..n), text.get(..n)) {
            to.copy_from_slice(from);
            self.len += n;
        }
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

/// Fuel of a function of the shim; found when this is compiled.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which reports an index out of range")]
const fn price(name: &str) -> u64 {
    let mut row = 0;
    while !same(SHIM[row].name, name) {
        row += 1;
    }
    SHIM[row].fuel
}

#[expect(clippy::indexing_slicing, reason = "as above")]
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

// Each function stands in the place of its row.
#[expect(clippy::indexing_slicing, reason = "as above")]
const _: () = {
    let mut row = 0;
    while row < SHIM.len() {
        assert!(same(SHIM[row].name, BODIES[row].0));
        row += 1;
    }
};

// What follows is called from many places that nobody waits for: one copy of it, because the agent's image is small.

/// Charges a price, and for so many bytes.
#[inline(never)]
fn charge(c: &mut Probe<'_>, price: u64, bytes: u32) -> Result<()> {
    take(c, price + u64::from(bytes) / BYTES_PER_FUEL)
}

/// What a function is called with and where its answer goes: one value for each parameter, at least one.
type Values<'a> = &'a mut [MaybeUninit<ValRaw>];
/// A function of the shim. All have one type, because each type that wasmtime wraps costs three kilobytes in the agent.
type Body = fn(Probe<'_>, [u64; 4]) -> Result<i32>;

/// The functions by name, as [`SHIM`] has them.
const BODIES: [(&str, Body); SHIM.len()] = [
    (ABORT, abort),
    ("args_get", |_, _| Ok(SUCCESS)),
    ("args_sizes_get", no_sizes),
    ("clock_time_get", clock_time_get),
    ("environ_get", |_, _| Ok(SUCCESS)),
    ("environ_sizes_get", no_sizes),
    ("fd_close", |_, [fd, ..]| Ok(if fd < 3 { SUCCESS } else { BADF })),
    ("fd_fdstat_get", fd_fdstat_get),
    ("fd_seek", |_, [fd, ..]| Ok(if fd < 3 { SPIPE } else { BADF })),
    ("fd_write", fd_write),
    ("poll_oneoff", poll_oneoff),
    ("proc_exit", |mut c, _| {
        end_line(c.data_mut());
        Err(wasmtime::Error::new(Exited))
    }),
    ("random_get", random_get),
    ("sched_yield", |_, _| Ok(SUCCESS)),
];

/// Links every function of the shim.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    for (row, (_, body)) in SHIM.iter().zip(BODIES) {
        let ty = |ty: &Ty| match ty {
            Ty::I32 => ValType::I32,
            Ty::I64 => ValType::I64,
        };
        let signature = FuncType::new(linker.engine(), row.params.iter().map(ty), row.result.iter().map(ty));
        let (params, answers) = (row.params, row.result.is_some());
        let call = move |c: Probe<'_>, values: Values<'_>| call(c, values, params, answers, body);
        // SAFETY: `call` reads as many values, of the types, as the signature that is made of the same row has parameters,
        // and writes the one result where there is one.
        unsafe { linker.func_new_unchecked(row.module, row.name, signature, call)? };
    }
    Ok(())
}

/// Calls a function with values of these types: all as unsigned numbers, and at most four.
fn call(c: Probe<'_>, values: Values<'_>, params: &[Ty], answers: bool, body: Body) -> Result<()> {
    let mut words = [0u64; 4];
    for ((word, value), ty) in words.iter_mut().zip(values.iter()).zip(params) {
        // SAFETY: wasmtime has set a value for each parameter.
        let value = unsafe { value.assume_init_ref() };
        *word = match ty {
            Ty::I32 => value.get_u32().into(),
            Ty::I64 => value.get_u64(),
        };
    }
    let answer = body(c, words)?;
    if let (true, Some(value)) = (answers, values.first_mut()) {
        value.write(ValRaw::i32(answer));
    }
    Ok(())
}

/// A parameter of type i32.
#[expect(clippy::cast_possible_truncation, reason = "it was 32 bits wide")]
const fn low(word: u64) -> u32 {
    word as u32
}

/// A range of linear memory.
#[inline(never)]
fn bytes<'a>(c: &'a mut Probe<'_>, at: u32, len: u32) -> Result<&'a mut [u8]> {
    range_mut(parts(c)?.0, at, len)
}

/// Writes an answer into linear memory.
#[inline(never)]
fn put(c: &mut Probe<'_>, to: u32, answer: &[u8]) -> Result<i32> {
    bytes(c, to, u32::try_from(answer.len()).unwrap_or(u32::MAX))?.copy_from_slice(answer);
    Ok(SUCCESS)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at.saturating_add(4)).and_then(|w| w.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

fn no_sizes(mut c: Probe<'_>, [number, bytes, ..]: [u64; 4]) -> Result<i32> {
    put(&mut c, low(number), &[0; 4])?;
    put(&mut c, low(bytes), &[0; 4])
}

fn clock_time_get(mut c: Probe<'_>, [clock, _, to, _]: [u64; 4]) -> Result<i32> {
    charge(&mut c, const { price("clock_time_get") }, 0)?;
    let target = c.data().target;
    let now = match clock {
        0 => target.real_time_ns(),
        1 => target.time_ns(),
        _ => return Ok(INVAL),
    };
    put(&mut c, low(to), &now.to_le_bytes())
}

fn random_get(mut c: Probe<'_>, [to, len, ..]: [u64; 4]) -> Result<i32> {
    // Making them takes more than moving them: each eight some two nanoseconds.
    charge(&mut c, const { price("random_get") } + u64::from(low(len)) / 2, 0)?;
    let (memory, state) = parts(&mut c)?;
    for chunk in range_mut(memory, low(to), low(len))?.chunks_mut(8) {
        let number = state.shim.next().to_le_bytes();
        chunk.copy_from_slice(number.get(..chunk.len()).unwrap_or_default());
    }
    Ok(SUCCESS)
}

/// A terminal, so that libc writes line by line: character device (2), no flags, and of all rights that to write (1 << 6).
fn fd_fdstat_get(mut c: Probe<'_>, [fd, to, ..]: [u64; 4]) -> Result<i32> {
    if fd > 2 {
        return Ok(BADF);
    }
    let mut stat = [0u8; 24];
    stat[0] = 2;
    stat[8] = 1 << 6;
    put(&mut c, low(to), &stat)
}

fn fd_write(mut c: Probe<'_>, [fd, pieces, count, written]: [u64; 4]) -> Result<i32> {
    let (pieces, count, written) = (low(pieces), low(count), low(written));
    let level = match fd {
        1 => INFO,
        2 => WARN,
        _ => return Ok(BADF),
    };
    if count > PIECES {
        return Ok(INVAL);
    }
    charge(&mut c, const { price("fd_write") } + u64::from(count) * PIECE, 0)?;
    let mut total = 0u32;
    for piece in 0..count {
        let list = bytes(&mut c, pieces, count * 8)?;
        let at = piece as usize * 8;
        let (at, len) = (word(list, at), word(list, at + 4));
        bytes(&mut c, at, len)?;
        let Some(sum) = total.checked_add(len) else { return Ok(INVAL) };
        total = sum;
        print(&mut c, level, at, len)?;
    }
    put(&mut c, written, &total.to_le_bytes())
}

/// Adds text to the line, and writes each line that ends. Every line costs what a log line costs.
fn print(c: &mut Probe<'_>, level: u16, at: u32, len: u32) -> Result<()> {
    charge(c, 0, len)?;
    if c.data().shim.line.level != level {
        end_line(c.data_mut());
        c.data_mut().shim.line.level = level;
    }
    let mut done = 0usize;
    while done < len as usize {
        let (memory, state) = parts(c)?;
        let line = &mut state.shim.line;
        let rest = range(memory, at, len)?.get(done..).unwrap_or_default();
        let room = LINE - line.len.min(LINE);
        let fits = rest.get(..room.min(rest.len())).unwrap_or_default();
        let end = fits.iter().position(|&b| b == b'\n');
        line.add(fits.get(..end.unwrap_or(fits.len())).unwrap_or_default());
        done += end.map_or(fits.len(), |n| n + 1);
        if end.is_some() || line.len == LINE {
            let bytes = u32::try_from(line.len).unwrap_or(0);
            charge(c, const { price("fd_write") }, bytes)?;
            end_line(c.data_mut());
        }
    }
    Ok(())
}

/// Writes the line as it is, if there is anything in it.
#[inline(never)]
fn end_line(state: &mut State) {
    if state.shim.line.len > 0 {
        let line = state.shim.line;
        state.shim.line.len = 0;
        log(state, &line);
    }
}

#[inline(never)]
fn log(state: &mut State, line: &Line) {
    write_record(state, RecordKind::Log, line.level, line.text());
}

/// Subscriptions of 48 bytes (userdata, kind, …) to events of 32 (userdata, error, kind, …).
fn poll_oneoff(mut c: Probe<'_>, words: [u64; 4]) -> Result<i32> {
    let [from, to, count, events] = words.map(low);
    if count == 0 || count > PIECES {
        return Ok(INVAL);
    }
    charge(&mut c, const { price("poll_oneoff") }, count * 80)?;
    for i in 0..count {
        let asked = bytes(&mut c, from, count * 48)?.get(i as usize * 48..).unwrap_or_default();
        let (Some(name), Some(&kind)) = (asked.first_chunk::<8>().copied(), asked.get(8)) else { break };
        // A clock's kind is 0.
        let error = if kind == 0 { SUCCESS } else { NOTSUP }.to_le_bytes()[0];
        let place = bytes(&mut c, to, count * 32)?.get_mut(i as usize * 32..).unwrap_or_default();
        let Some(event) = place.first_chunk_mut::<32>() else { break };
        *event = [0; 32];
        event[..8].copy_from_slice(&name);
        event[8] = error;
        event[10] = kind;
    }
    put(&mut c, events, &count.to_le_bytes())
}

fn abort(mut c: Probe<'_>, words: [u64; 4]) -> Result<i32> {
    let [message, file, row, column] = words.map(low);
    charge(&mut c, const { price(ABORT) }, 0)?;
    end_line(c.data_mut());
    let mut line = Line::of(ERROR);
    if let Ok((memory, _)) = parts(&mut c) {
        line.add(b"abort: ");
        script_text(memory, message, &mut line);
        line.add(b" at ");
        script_text(memory, file, &mut line);
        // A line takes all that is written.
        let _ = write!(line, ":{row}:{column}");
    }
    log(c.data_mut(), &line);
    Err(wasmtime::Error::new(Exited))
}

/// A string of AssemblyScript: UTF-16, its bytes counted in the word before it. What is none is told as `?`.
fn script_text(memory: &[u8], at: u32, line: &mut Line) {
    let found = at.checked_sub(4).and_then(|head| range(memory, head, 4).ok()).map(|head| word(head, 0));
    let text = found.and_then(|len| range(memory, at, len).ok()).filter(|_| at != 0);
    let Some(text) = text else { return line.add(b"?") };
    let units = text.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    for c in char::decode_utf16(units).take(ABORT_TEXT) {
        line.add(c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut [0; 4]).as_bytes());
    }
}
