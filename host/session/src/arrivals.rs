//! Modules that the program loads while a session lives: found by comparing its mappings, whoever made them.
//!
//! To read all mappings of a large process takes milliseconds, so it is done only when the memory that may be executed has
//! another size than before (two lines of `/proc/PID/status`, whatever the number of mappings), and now and then, because
//! one module may have gone and another of its size come; and never for more than a tenth of the time. A loader maps a
//! module piece by piece: one is taken when two looks in a row saw the same mappings of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use trocar_target::{Failure, Mapping, Module, maps, modules};

/// How often all mappings are looked at, whatever the size says.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Part of the time that a look may take: one in so many.
const SHARE: u32 = 10;
/// The same where nothing has changed.
const IDLE_SHARE: u32 = 200;
/// Times that a module is offered again.
const TRIES: u8 = 3;
/// How the names of our own memory files begin.
const OURS: &str = "/memfd:trocar-";

/// What a module is known by: where it begins, and its file.
type Key = (u64, (u32, u32), u64, PathBuf);

fn key(module: &Module) -> Key {
    (module.range().start, module.device, module.inode, module.path.clone())
}

/// The modules that were seen.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pid: i32,
    /// With the address behind each.
    known: HashMap<Key, u64>,
    /// Those of the last look that are not known, with their mappings.
    coming: HashMap<Key, Vec<Mapping>>,
    /// How often a module was offered again.
    tries: HashMap<Key, u8>,
    /// Size of the memory that may be executed.
    size: String,
    /// Not before this.
    earliest: Instant,
    /// Not after this.
    latest: Instant,
}

impl Arrivals {
    /// All that come after these.
    pub(crate) fn after(pid: i32, modules: &[Module]) -> Self {
        let now = Instant::now();
        Self {
            pid,
            known: modules.iter().map(|module| (key(module), module.range().end)).collect(),
            coming: HashMap::new(),
            tries: HashMap::new(),
            size: String::new(),
            earliest: now,
            latest: now,
        }
    }

    /// The modules that have come. To be called some tens of times a second.
    ///
    /// # Errors
    /// The process ended.
    pub(crate) fn look(&mut self) -> Result<Vec<Module>, Failure> {
        let now = Instant::now();
        if now < self.earliest {
            return Ok(Vec::new());
        }
        let size = executable(self.pid);
        if size == self.size && self.coming.is_empty() && now < self.latest {
            return Ok(Vec::new());
        }
        self.size = size;
        let there = modules(&maps(self.pid)?);
        let keys: HashSet<Key> = there.iter().map(key).collect();
        self.known.retain(|known, _| keys.contains(known));
        self.tries.retain(|tried, _| keys.contains(tried));
        let before = std::mem::take(&mut self.coming);
        let mut come = Vec::new();
        for module in there {
            let key = key(&module);
            if self.known.contains_key(&key) || module.path.to_string_lossy().starts_with(OURS) {
                continue;
            }
            if before.get(&key) == Some(&module.mappings) {
                self.known.insert(key, module.range().end);
                come.push(module);
            } else {
                self.coming.insert(key, module.mappings);
            }
        }
        let took = now.elapsed();
        self.earliest = Instant::now() + took * SHARE;
        self.latest = Instant::now() + AT_LEAST.max(took * IDLE_SHARE);
        Ok(come)
    }

    /// Sites of modules were retired: the same file may lie in the same place again, and has come then.
    pub(crate) fn forget(&mut self, sites: &[u64]) {
        let holds = |(start, ..): &Key, end: u64| sites.iter().any(|site| (*start..end).contains(site));
        self.known.retain(|known, end| !holds(known, *end));
        self.latest = Instant::now();
    }

    /// What could not be done with a module is tried again, if it is still there. False: it was tried often enough.
    pub(crate) fn again(&mut self, module: &Module) -> bool {
        let key = key(module);
        let tries = self.tries.entry(key.clone()).or_default();
        if *tries == TRIES {
            return false;
        }
        *tries += 1;
        self.known.remove(&key);
        self.latest = Instant::now();
        true
    }
}

/// The size of the memory that may be executed, as the kernel writes it: of the program's own text, and of the rest.
fn executable(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().filter(|l| l.starts_with("VmExe:") || l.starts_with("VmLib:")).collect()
}
