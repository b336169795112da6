//! End-to-end tests: the built `trocar` command on live programs, by the command line's contract alone.
//!
//! ```text
//! count       exact counts on the same C program built in a dozen ways; points by name, offset, address
//! languages   C++ exceptions, Rust panics, a conservative collector, Go, the system's python, a static musl server
//! faults      programs that turn faults into exceptions
//! short_sites returns and other sites without five bytes of their own
//! redis       Debian's redis-server under redis-benchmark
//! guests      every guest language: its example, a hit, a trap, a limit
//! kept        registers, red zone, text, mappings, signals, descriptors: what a probe must not change
//! live        attach in the middle of things: malloc, fork, signals, coroutines, system calls that sleep
//! left        hits that a signal handler leaves: siglongjmp, a thread's end, coroutines
//! reused      threads that come after one another with the same thread pointer
//! memory      our memory in the target: who writes it, who shares it, what a hit makes, what is dropped at the end
//! filters     seccomp filters of every kind, on every thread, at any time
//! hardened    targets that restrict themselves, are suspended, lend their memory, or start themselves anew
//! unwind      backtrace(), profilers and frame pointers while functions are probed
//! interrupted signal handlers that will return into a site, restartable sequences, cancelled threads
//! namespaces  containers, from outside and from inside
//! ends        target killed, target execs, host killed
//! limits      records, share of a core, sampling, hits, time to live, off
//! quarantine  probes that loop, trap, recurse, grow
//! evidence    what a quarantine says of the hit that brought it, and the same hit again outside the process
//! preempted   sites that come and go under goroutines which were preempted between their instructions
//! tiers       native code and wasmtime: the same counts; which probes run how
//! imports     calls through import tables
//! uprobes     the kernel's own probes on a site of ours
//! usdt        markers, their semaphores, those of real programs
//! dl          modules that go and come while they are probed
//! time        calls from entry to exit: recursion, tail calls, exceptions, longjmp, threads, coroutines, goroutines
//! refusal     bad input: exit status, one message, a target that runs on untouched
//! relaid      programs that lay their own text anew
//! verbs       ps, points, check, doctor, new and build, demo
//! ```
//!
//! Sizes are a fiftieth of the full ones unless `TROCAR_FULL` is set (`just torture`).
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod count;
mod dl;
mod ends;
mod evidence;
mod faults;
mod filters;
mod guests;
mod hardened;
mod imports;
mod interrupted;
mod kept;
mod languages;
mod left;
mod limits;
mod live;
mod memory;
mod namespaces;
mod preempted;
mod probe;
mod quarantine;
mod redis;
mod refusal;
mod relaid;
mod reused;
mod short_sites;
mod tiers;
mod time;
mod unwind;
mod uprobes;
mod usdt;
mod verbs;
