//! Behaviour: a multi-threaded Rust program whose panics pass through frames of probed functions and are caught.
//!
//!   run THREADS CALLS   each thread calls `middle` CALLS times, every second call panics below it;
//!                       `done TOTAL caught=N`, or `wrong …` if a value that `middle` owns was not dropped, or a
//!                       payload was another one
use std::cell::Cell;
use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

struct Guard<'a>(&'a Cell<i64>);

impl<'a> Guard<'a> {
    fn new(open: &'a Cell<i64>) -> Self {
        open.set(open.get() + 1);
        Self(open)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[inline(never)]
fn leaf(i: u64) -> u64 {
    match i % 4 {
        1 => panic!("no item {i}"),
        // Without the hook and its message.
        3 => resume_unwind(Box::new(i)),
        _ => i / 2,
    }
}

/// The probed frame: it owns something that is dropped while the panic passes.
#[inline(never)]
fn middle(i: u64, open: &Cell<i64>) -> u64 {
    let guard = Guard::new(open);
    leaf(i) + u64::try_from(guard.0.get()).unwrap_or(0)
}

/// Whether it panicked, as it should have.
#[inline(never)]
fn outer(i: u64, open: &Cell<i64>) -> (bool, bool) {
    match catch_unwind(AssertUnwindSafe(|| middle(i, open))) {
        Ok(value) => (false, i % 2 == 0 && value == i / 2 + 1),
        Err(payload) => {
            let message = payload.downcast_ref::<String>().is_some_and(|m| *m == format!("no item {i}"));
            let number = payload.downcast_ref::<u64>() == Some(&i);
            (true, if i % 4 == 1 { message } else { number })
        }
    }
}

fn calls(calls: u64) -> (u64, bool) {
    let open = Cell::new(0);
    let (mut caught, mut right) = (0, true);
    for i in 0..calls {
        let (panicked, as_expected) = outer(i, &open);
        caught += u64::from(panicked);
        right &= as_expected && open.get() == 0;
    }
    (caught, right)
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    println!("ready pid={}", std::process::id());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers: Vec<u64> = words.iter().filter_map(|w| w.parse().ok()).collect();
        match (words.as_slice(), numbers.as_slice()) {
            (["run", ..], &[threads @ 1..=64, each]) => {
                let pool: Vec<_> = (0..threads).map(|_| std::thread::spawn(move || calls(each))).collect();
                let all: Vec<(u64, bool)> = pool.into_iter().map(|t| t.join().unwrap_or((0, false))).collect();
                let word = if all.iter().all(|(_, right)| *right) { "done" } else { "wrong" };
                println!("{word} {} caught={}", threads * each, all.iter().map(|(n, _)| n).sum::<u64>());
            }
            _ => println!("error unknown command: {line}"),
        }
    }
}
