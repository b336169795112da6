//! How a hit that brought a quarantine is seen again: it is tried here at once, with the memory of the process as it still
//! is, and what was read goes into a file with the registers, so that `trocar test` repeats it without the process.
//!
//! The file holds memory of the target: only its owner may read it. It lies in the user's folder for state; where there is
//! none, the hit stands in the command itself.

use std::fs;
use std::io::{IoSliceMut, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use trocar_abi::hit::REGISTERS;
use trocar_collect::TrapEvidence;
use trocar_compile::{VerifyOptions, verify_with};
use trocar_rehearse::{Live, Outcome, Probe, RecordedHit, RecordedMemory, Rehearsal, Word};
use trocar_session::Request;
use trocar_session::reply::{Evidence, Limits, Replay, StateChange};

/// The probe that is at work, as `trocar test` has to be asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again<'a> {
    /// The file or the bundled name, if the user gave one; else the module is kept with the hit.
    pub(crate) word: Option<&'a Path>,
    /// What was asked for, for whatever process.
    pub(crate) request: &'a Request,
}

impl Again<'_> {
    /// Adds to a change of state how its hit is seen again.
    pub(crate) fn complete(&self, change: &mut StateChange) {
        let Some(evidence) = &mut change.evidence else { return };
        let Some(hit) = evidence.hit.take() else { return };
        let recorded = recorded(&hit, evidence);
        // Without a rehearsal there is still the hit as it was recorded, with the stack that it saw.
        let (recorded, same) = self.tried(&recorded, &hit, change.pid).unwrap_or((recorded, false));
        let command = self.command(&change.session, &recorded);
        evidence.replay = command.map(|command| Replay { command, same });
    }

    /// The hit with the memory that it reads, and whether it traps here as it did there.
    fn tried(&self, hit: &RecordedHit, there: &TrapEvidence, pid: i32) -> Option<(RecordedHit, bool)> {
        let options = VerifyOptions { name: Some(&self.request.name), memory_bytes: self.request.memory };
        let verified = verify_with(&self.request.wasm, &options).ok()?;
        let manifest = verified.manifest;
        let sets: Vec<(&str, &str)> =
            self.request.sets.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let params = manifest.resolve_params(&sets).ok()?;
        let fuel = self.request.fuel.or(manifest.limits.fuel).unwrap_or(Limits::default().fuel);
        let memory_bytes = verified.memory_limit;
        let probe =
            Probe { wasm: &self.request.wasm, manifest: &manifest, params: &params, fuel, memory_bytes };
        let mut rehearsal = Rehearsal::new(&probe).ok()?;
        let (result, hit) = rehearsal.hit_live(hit, reader(pid)).ok()?;
        // It is the same code, so the same place has the same address. Around it there may be wasmtime's entry here and none
        // there.
        let same = result.outcome == Outcome::Trapped(there.trap)
            && result.trapped_at.first() == there.frames.first()
            && rehearsal.spots(&result.trapped_at) == rehearsal.spots(&there.frames);
        Some((hit, same))
    }

    /// The command, after what it needs was written; `None` if the hit cannot be written down.
    fn command(&self, session: &str, hit: &RecordedHit) -> Option<String> {
        let line = serde_json::to_string(hit).ok()?;
        let folder = folder().map(|folder| folder.join(session));
        let keep = |name: &str, bytes: &[u8]| {
            let path = folder.as_ref()?.join(name);
            write(&path, bytes).ok().map(|()| path.display().to_string())
        };
        let probe = match self.word {
            Some(word) => word.display().to_string(),
            None => keep("probe.wasm", &self.request.wasm)?,
        };
        let hit = keep("hit.json", line.as_bytes()).map_or(line, |path| format!("@{path}"));
        let mut words = vec!["trocar".to_owned(), "test".to_owned(), probe, "--hit".to_owned(), hit];
        for (name, value) in &self.request.sets {
            words.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        for (option, value) in [("--fuel", self.request.fuel), ("--memory", self.request.memory)] {
            words.extend(value.into_iter().flat_map(|value| [option.to_owned(), value.to_string()]));
        }
        Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
    }
}

/// The hit as `trocar test` takes it, without memory but the stack.
fn recorded(hit: &TrapEvidence, evidence: &Evidence) -> RecordedHit {
    let registers = REGISTERS.iter().zip(hit.registers);
    let stack: Vec<u8> = hit.stack.iter().flat_map(|word| word.to_le_bytes()).collect();
    let rsp = REGISTERS.iter().position(|r| *r == "rsp").and_then(|n| hit.registers.get(n)).copied();
    RecordedHit {
        args: Vec::new(),
        regs: registers.map(|(name, value)| ((*name).to_owned(), Word(value))).collect(),
        memory: match rsp {
            Some(rsp) if !stack.is_empty() => vec![RecordedMemory::new(rsp, &stack)],
            _ => Vec::new(),
        },
        tid: hit.tid,
        site: hit.site,
        time_ns: hit.time_ns,
        cpu: hit.cpu,
        span_ns: Some(hit.span_ns),
        function: hit.function,
        handler: (!evidence.handler.is_empty()).then(|| evidence.handler.clone()),
        go: evidence.go,
    }
}

/// Reads memory of a process as a probe in it does: all of the bytes or none.
fn reader(pid: i32) -> Live {
    Box::new(move |address, to| {
        let (Ok(base), len) = (usize::try_from(address), to.len()) else { return false };
        let remote = [RemoteIoVec { base, len }];
        len == 0
            || process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(to)], &remote)
                .is_ok_and(|n| n == len)
    })
}

/// Our folder for state (XDG Base Directory Specification).
fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    Some(state?.join("trocar"))
}

/// Writes a file for its owner alone, in place of one of an earlier session of that name.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    fs::rename(unfinished, path)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
