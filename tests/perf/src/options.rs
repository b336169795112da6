//! What the benchmark is asked to measure.

use clap::{Parser, ValueEnum};

/// Measures what a probe costs. A table goes to stdout, and JSON lines to `target/bench.json`.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// Only this part; may be given several times
    #[arg(long, value_enum)]
    pub only: Vec<Part>,
    /// Only rows of `hits` whose name holds this text; may be given several times
    #[arg(long)]
    pub row: Vec<String>,
    /// Rounds through all rows
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Pairs of batches for each row and round; slow peers get fewer
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(5..=200_000))]
    pub batches: u32,
    /// Numbers of threads that call the function
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub threads: Vec<usize>,
    /// Attaches for each target
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub attaches: u32,
    /// Numbers of threads of the targets that are attached to, calling and sleeping
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub attach_threads: Vec<usize>,
    /// Attaches to every function of a large program at once
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub site_attaches: u32,
    /// Pairs of redis-benchmark runs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub redis_pairs: u32,
    /// Requests of each redis-benchmark run
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub redis_requests: u64,
    /// Pairs of redis-benchmark runs for each probe that burns its fuel
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub share_pairs: u32,
    /// Requests of each of these runs: for some seconds
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub share_requests: u64,
    /// What goes to stdout
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Added time of a hit
    Hits,
    /// Attaching, stopping and memory
    Attach,
    /// Attaching to every function of a large program at once
    Sites,
    /// Throughput of a redis-server
    Redis,
    /// Throughput of a redis-server under a probe that burns its fuel at every command
    Share,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// JSON lines
    Json,
}

impl Options {
    /// Whether this part is wanted.
    #[must_use]
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether this row of `hits` is wanted.
    #[must_use]
    pub fn wants_row(&self, what: &str) -> bool {
        self.row.is_empty() || self.row.iter().any(|text| what.contains(text.as_str()))
    }
}
