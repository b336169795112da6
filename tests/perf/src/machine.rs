//! What the figures were measured on, and how busy it was.

use std::fs::read_to_string;

use serde::Serialize;

/// The machine at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors that may run us.
    pub processors: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Load averages of one, five and fifteen minutes, then running and all tasks.
    pub load: String,
}

impl Machine {
    /// Processors that may run us; zero if that cannot be found out.
    #[must_use]
    pub fn processors() -> usize {
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
    }

    /// As it is now. What cannot be read is empty.
    #[must_use]
    pub fn now() -> Self {
        let text = |path: &str| read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
            processors: Self::processors(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: text("/proc/loadavg").split(' ').take(4).collect::<Vec<_>>().join(" "),
        }
    }
}
