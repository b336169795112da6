//! What a hit allocates: nothing, unless it traps; and then everything is given back.
//!
//! The agent's heap belongs to a context and is small, and a hit may stand inside the target's own allocator. So the test
//! binary counts, for each thread, what it takes and gives back.
#![expect(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use trocar_abi::import::IMPORTS;
use trocar_abi::map::MapKind;
use trocar_abi::shared::TrapCode;
use trocar_sandbox::Outcome;

use crate::fuel::one_call;
use crate::rig::{Fake, Rig, Setup, WASM_PAGE, on_hit};

thread_local! {
    /// Calls that took memory, and bytes taken less bytes given back. Constants, so that they take no memory.
    static TAKEN: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(calls: u64, bytes: i64) {
    // A thread that is ending has no counter any more, and runs no test.
    let _ = TAKEN.try_with(|taken| taken.set((taken.get().0 + calls, taken.get().1 + bytes)));
}

fn bytes(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

// SAFETY: all work is done by the system's allocator; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, bytes(layout));
        // SAFETY: the caller's contract is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -bytes(layout));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` took: calls, and bytes that it did not give back.
fn taken(work: impl FnOnce()) -> (u64, i64) {
    let before = TAKEN.get();
    work();
    let after = TAKEN.get();
    (after.0 - before.0, after.1 - before.1)
}

fn setup() -> Setup {
    Setup {
        maps: vec![(MapKind::Counter, 1, 0), (MapKind::Hist, 1, 0), (MapKind::Hash, 16, 256)],
        params: vec![4],
        strings: b"text".to_vec(),
        // Its list of reads is not part of the sandbox, and has room already.
        target: Fake {
            memory: vec![(0x5000, vec![b'x'; 4096])],
            reads: Vec::with_capacity(100).into(),
            ..Fake::default()
        },
        ..Setup::default()
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(taken(|| drop(std::hint::black_box(Box::new(1u64)))), (1, 0));
    assert_eq!(taken(|| std::mem::forget(std::hint::black_box(Box::new(1u64)))), (1, 8));
}

#[test]
fn no_host_call_takes_memory() {
    for import in IMPORTS {
        let mut rig = setup().start(&on_hit(&one_call(import.name).0));
        // From the very first hit on: there is no warming up in a target.
        for hit in 0..3 {
            let calls = taken(|| assert_eq!(rig.hit(), Outcome::Executed));
            assert_eq!(calls, (0, 0), "{}, hit {hit}", import.name);
        }
    }
}

#[test]
fn no_ordinary_outcome_takes_memory() {
    let loops = "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))";
    for (code, want) in [
        ("", Outcome::Executed),
        (loops, Outcome::Executed),
        ("(result i32) (i32.const 0)", Outcome::ConditionFalse),
        ("(call $emit (i32.const 0) (i32.const 0) (i32.const 100))", Outcome::RingFull),
        ("(memory.fill (i32.const 0) (i32.const 1) (i32.const 60000))", Outcome::Executed),
    ] {
        let mut rig = Setup { ring: 64, ..setup() }.start(&on_hit(code));
        assert_eq!(taken(|| assert_eq!(rig.hit(), want)), (0, 0), "{code}");
    }
}

#[test]
fn a_trap_gives_back_all_that_it_takes() {
    for (code, want) in [
        ("unreachable", TrapCode::Unreachable),
        ("(drop (i32.load (i32.const -4)))", TrapCode::MemoryOutOfBounds),
        ("(loop $l (br $l))", TrapCode::OutOfFuel),
        ("(loop $l (drop (call $time_ns)) (br $l))", TrapCode::OutOfFuel),
        ("(call $counter_add (i32.const 9) (i32.const 0) (i64.const 1))", TrapCode::HostCall),
        ("(call $emit (i32.const 0) (i32.const -1) (i32.const 1))", TrapCode::HostCall),
        ("(drop (memory.grow (i32.const 100)))", TrapCode::OverLimit),
    ] {
        let mut rig = Setup { fuel: 1000, memory_max: WASM_PAGE, ..setup() }.start(&on_hit(code));
        for hit in 0..3 {
            let (_, kept) = taken(|| rig.traps(want));
            assert_eq!(kept, 0, "{code}, hit {hit}");
        }
    }
    let mut deep: Rig = setup().start(&crate::rig::module(r#"(func $f (export "on_hit") (call $f))"#));
    assert_eq!(taken(|| deep.traps(TrapCode::StackOverflow)).1, 0);
}
