//! The host calls, one function for each row of `trocar_abi::import::IMPORTS`; `shim` has those of languages' runtimes.
//!
//! None of them allocates on the way that succeeds. Each takes pointers as unsigned 32-bit numbers and checks the
//! whole range in 64 bits; a range outside linear memory is the probe's bug and traps.

use core::fmt;
use trocar_abi::import::errno::EFAULT;
use trocar_abi::import::{Import, MODULE, SYSTEM_CALL, known};
use trocar_abi::record::{PAYLOAD_MAX, RecordHead, RecordKind};
use trocar_abi::shared::record_tokens;
use wasmtime::{AsContext, Caller, Linker, Result, Trap};

use crate::direct::memory_and_state;
use crate::instance::{Arguments, Dropped, State};

/// A host call was given what no correct probe gives: a range outside memory, a wrong map, a record too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCallError(pub &'static str);

impl fmt::Display for HostCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for HostCallError {}

pub(crate) type Probe<'a> = Caller<'a, State>;

/// Longest string that one `read_str` copies: it touches two pages at most, so it makes two system calls at most.
const STRING_MAX: usize = 4096;

/// Links every host call and every function of the shim.
///
/// # Errors
/// Only out of memory.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    linker
        .func_wrap(MODULE, "arg", |c: Probe<'_>, n: u32| -> Result<u64> {
            let state = c.data();
            let Some(frame) = state.frame() else { return Ok(0) };
            let value = match state.env.arguments {
                Arguments::SystemV => frame.argument(n),
                Arguments::Go => frame.go_argument(n),
                Arguments::Markers { go } => return crate::marker::argument(c, go, n),
            };
            Ok(value.unwrap_or(0))
        })?
        .func_wrap(MODULE, "ret", |c: Probe<'_>| -> u64 { c.data().frame().map_or(0, |f| f.rax) })?
        .func_wrap(MODULE, "reg", |c: Probe<'_>, n: u32| -> u64 { c.data().register(n) })?
        .func_wrap(MODULE, "site", |c: Probe<'_>| -> u32 { c.data().hit.map_or(0, |h| h.site()) })?
        .func_wrap(MODULE, "tid", |c: Probe<'_>| -> u32 { c.data().hit.map_or(0, |h| h.tid()) })?
        .func_wrap(MODULE, "function", |mut c: Probe<'_>| -> Result<u32> {
            charge(&mut c, const { known("function") }, 0)?;
            let state = c.data();
            Ok(state.hit.map_or(0, |h| state.target.function(h.site())))
        })?
        .func_wrap(MODULE, "span_ns", |mut c: Probe<'_>| -> Result<i64> {
            charge(&mut c, const { known("span_ns") }, 0)?;
            Ok(c.data().span_ns())
        })?
        .func_wrap(MODULE, "cpu", |mut c: Probe<'_>| -> Result<u32> {
            charge(&mut c, const { known("cpu") }, 0)?;
            Ok(c.data().target.cpu())
        })?
        .func_wrap(MODULE, "time_ns", |mut c: Probe<'_>| -> Result<u64> {
            charge(&mut c, const { known("time_ns") }, 0)?;
            Ok(c.data().target.time_ns())
        })?
        .func_wrap(MODULE, "param", |c: Probe<'_>, n: u32| -> u64 {
            c.data().env.params.get(n as usize).copied().unwrap_or(0)
        })?
        .func_wrap(MODULE, "param_str", param_str)?
        .func_wrap(MODULE, "counter_add", |c: Probe<'_>, map: u32, entry: u32, n: u64| -> Result<()> {
            c.data().env.maps.counter_add(map, entry, n).ok_or_else(|| misuse("counter_add: no such counter"))
        })?
        .func_wrap(MODULE, "hist_add", |c: Probe<'_>, map: u32, entry: u32, value: u64| -> Result<()> {
            c.data().env.maps.hist_add(map, entry, value).ok_or_else(|| misuse("hist_add: no such histogram"))
        })?
        .func_wrap(MODULE, "hash_add", |c: Probe<'_>, map: u32, key: u32, len: u32, n: u64| {
            hash_update(c, map, key, len, n, false)
        })?
        .func_wrap(MODULE, "hash_set", |c: Probe<'_>, map: u32, key: u32, len: u32, n: u64| {
            hash_update(c, map, key, len, n, true)
        })?
        .func_wrap(MODULE, "hash_get", |mut c: Probe<'_>, map: u32, key: u32, len: u32| -> Result<u64> {
            charge(&mut c, const { known("hash_get") }, len)?;
            let (memory, state) = parts(&mut c)?;
            let key = range(memory, key, len)?;
            state
                .env
                .maps
                .hash_get(map, key)
                .ok_or_else(|| misuse("hash_get: no such map, or the key is too long"))
        })?
        .func_wrap(MODULE, "emit", |c: Probe<'_>, schema: u32, at: u32, len: u32| {
            record(c, const { known("emit") }, RecordKind::Event, schema, at, len)
        })?
        .func_wrap(MODULE, "log", |c: Probe<'_>, level: u32, at: u32, len: u32| {
            record(c, const { known("log") }, RecordKind::Log, level, at, len)
        })?
        .func_wrap(MODULE, "read", |mut c: Probe<'_>, address: u64, to: u32, len: u32| -> Result<i32> {
            charge(&mut c, const { known("read") }, len)?;
            let (memory, state) = parts(&mut c)?;
            let to = range_mut(memory, to, len)?;
            Ok(state.target.read(address, to).err().unwrap_or(0))
        })?
        .func_wrap(MODULE, "read_str", read_str)?;
    crate::shim::link(linker)
}

#[cold]
fn misuse(what: &'static str) -> wasmtime::Error {
    wasmtime::Error::new(HostCallError(what))
}

/// Charges the fuel that a call's work is worth by the table.
fn charge(c: &mut Probe<'_>, call: &Import, bytes: u32) -> Result<()> {
    take(c, call.price(bytes))
}

/// Charges fuel.
pub(crate) fn take(c: &mut Probe<'_>, price: u64) -> Result<()> {
    match c.data().fuel {
        Some(fuel) if fuel.charge(price) => Ok(()),
        Some(_) => Err(out_of_fuel()),
        None => charge_at_start(c, price),
    }
}

/// The same in the start function, before there is a handler that leads to the fuel.
#[cold]
fn charge_at_start(c: &mut Probe<'_>, price: u64) -> Result<()> {
    let left = c.as_context().get_fuel()?;
    match left.checked_sub(price) {
        Some(rest) => c.set_fuel(rest),
        None => {
            c.set_fuel(0)?;
            Err(out_of_fuel())
        }
    }
}

#[cold]
fn out_of_fuel() -> wasmtime::Error {
    Trap::OutOfFuel.into()
}

/// The probe's linear memory and the state, at once.
pub(crate) fn parts<'a>(c: &'a mut Probe<'_>) -> Result<(&'a mut [u8], &'a mut State)> {
    memory_and_state(c).ok_or_else(|| misuse("the module exports no memory"))
}

pub(crate) fn range(memory: &[u8], at: u32, len: u32) -> Result<&[u8]> {
    let start = at as usize;
    memory.get(start..start + len as usize).ok_or_else(|| misuse("a range outside linear memory"))
}

pub(crate) fn range_mut(memory: &mut [u8], at: u32, len: u32) -> Result<&mut [u8]> {
    let start = at as usize;
    memory.get_mut(start..start + len as usize).ok_or_else(|| misuse("a range outside linear memory"))
}

fn hash_update(mut c: Probe<'_>, map: u32, key: u32, len: u32, n: u64, set: bool) -> Result<i32> {
    charge(&mut c, const { known("hash_add") }, len)?;
    let (memory, state) = parts(&mut c)?;
    let key = range(memory, key, len)?;
    let answer = state.env.maps.hash_update(map, key, n, set);
    answer.ok_or_else(|| misuse("hash_add: no such map, or the key is too long"))
}

fn record(mut c: Probe<'_>, call: &Import, kind: RecordKind, tag: u32, at: u32, len: u32) -> Result<()> {
    charge(&mut c, call, len)?;
    if len > PAYLOAD_MAX {
        return Err(misuse("a record over 4096 bytes"));
    }
    let Ok(tag) = u16::try_from(tag) else { return Err(misuse("no such event schema or log level")) };
    let (memory, state) = parts(&mut c)?;
    let payload = range(memory, at, len)?;
    write_record(state, kind, tag, payload);
    Ok(())
}

/// Writes a record of at most [`PAYLOAD_MAX`] bytes.
#[inline(always)]
pub(crate) fn write_record(state: &mut State, kind: RecordKind, tag: u16, payload: &[u8]) {
    let (site, tid) = state.hit.map_or((0, 0), |h| (h.site(), h.tid()));
    let len = u32::try_from(payload.len()).unwrap_or(0);
    let head = RecordHead { len, kind: kind as u16, tag, site, tid };
    if !state.env.rate.take(record_tokens(len)) {
        state.dropped = Some(Dropped::RateLimited);
    } else if state.env.ring.push(head, payload).is_err() {
        state.dropped = Some(Dropped::RingFull);
    }
}

fn param_str(mut c: Probe<'_>, n: u32, to: u32, len: u32) -> Result<u32> {
    charge(&mut c, const { known("param_str") }, len)?;
    let (memory, state) = parts(&mut c)?;
    let to = range_mut(memory, to, len)?;
    let packed = state.env.params.get(n as usize).copied().unwrap_or(0);
    let (start, size) = ((packed >> 32) as usize, (packed & 0xffff_ffff) as usize);
    let Some(text) = state.env.strings.get(start..start + size) else { return Ok(0) };
    let copied = text.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..copied), text.get(..copied)) {
        to.copy_from_slice(from);
    }
    Ok(u32::try_from(size).unwrap_or(0))
}

/// A string is read a page at a time, so that one that ends at the last mapped byte is read whole.
fn read_str(mut c: Probe<'_>, address: u64, to: u32, len: u32) -> Result<i32> {
    const PAGE: u64 = trocar_abi::PAGE;
    charge(&mut c, const { known("read_str") }, len)?;
    let room = (len as usize).min(STRING_MAX);
    let mut done = 0usize;
    loop {
        if done > 0 {
            take(&mut c, SYSTEM_CALL)?;
        }
        let (memory, state) = parts(&mut c)?;
        let to = range_mut(memory, to, len)?;
        let Some(at) = address.checked_add(done as u64) else { return Ok(EFAULT) };
        let step = usize::try_from(PAGE - at % PAGE).unwrap_or(0).min(room - done);
        let Some(part) = to.get_mut(done..done + step).filter(|part| !part.is_empty()) else { break };
        if let Err(code) = state.target.read(at, part) {
            return Ok(code);
        }
        if let Some(end) = part.iter().position(|&b| b == 0) {
            return Ok(i32::try_from(done + end).unwrap_or(i32::MAX));
        }
        done += step;
        if done == room {
            break;
        }
    }
    Ok(i32::try_from(done).unwrap_or(i32::MAX))
}
