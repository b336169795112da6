//! Where everything of ours lies in the target: one region for the agent, and one block for the trampolines of each
//! module that has sites.
//!
//! ```text
//! region   code       r-x  memfd, sealed   the compiled module, the native stub if there is one, the agent's text
//!          agent data rw-  private         relocated by us
//!          private    rw-  private         control block and what it points to, boot heap, boot stack
//!          contexts   rw-  private         see trocar_abi::control::context_stride
//!          shared     rw-  memfd, shared   see trocar_abi::shared
//!
//! block    gates      rw-  private; first page wiped in fork children: gate word; then agent's entry, and for each site
//!                          the hits that its trampoline turned away because a goroutine's stack had no room
//!          code       r-x  the same sealed memfd
//! ```
//! Each is one reservation, so that one `munmap` takes it away.

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub(crate) use trocar_abi::control::TRAMPOLINE_MAX;
use trocar_abi::control::{Control, LINE, block_gates, block_len};
use trocar_abi::shared::Layout;
use trocar_abi::{PAGE, round_up};

use crate::image::Image;

/// Bytes of heap for the engine and the module, besides what the tables of contexts need.
const BOOT_HEAP: u64 = 8 << 20;
/// Bytes of stack for booting.
const BOOT_STACK: u64 = 256 << 10;
/// Bytes of a context's spare stack: 32 KiB of wasm, the agent's frames, a signal handler of the target on top.
pub(crate) const SPARE_STACK: u32 = 128 << 10;

/// Offsets within the region. All are multiples of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) module: u64,
    pub(crate) stub: u64,
    pub(crate) text: u64,
    pub(crate) data: u64,
    pub(crate) private: u64,
    pub(crate) heap: u64,
    pub(crate) stack_top: u64,
    pub(crate) contexts: u64,
    pub(crate) shared: u64,
    pub(crate) len: u64,
}

impl Region {
    /// Lays the region out. `placed` is the number of bytes that the control block and what it points to take, `context`
    /// that of a context; `stub_len` is zero without a stub.
    pub(crate) fn new(
        image: &Image,
        module_len: usize,
        stub_len: usize,
        placed: usize,
        layout: &Layout,
        context: u64,
    ) -> Self {
        let stub = round_up(module_len as u64, 64);
        let text = round_up(stub + stub_len as u64, PAGE);
        let data = text + image.text.len() as u64;
        let private = text + image.len();
        let heap = private + round_up(placed as u64, PAGE);
        let heap_end = heap + BOOT_HEAP + u64::from(layout.contexts) * 128;
        let stack_top = round_up(heap_end, PAGE) + BOOT_STACK;
        let contexts = stack_top;
        let shared = contexts + u64::from(layout.contexts) * context;
        Self {
            module: 0,
            stub,
            text,
            data,
            private,
            heap,
            stack_top,
            contexts,
            shared,
            len: shared + layout.total(),
        }
    }

    /// Bytes of the boot heap.
    pub(crate) fn heap_len(&self) -> u64 {
        self.stack_top - BOOT_STACK - self.heap
    }
}

/// A block of trampolines near a module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    /// Address of the block: its page of gates.
    pub(crate) address: u64,
    /// Bytes of its gates, whole pages.
    pub(crate) gates: u64,
    /// Bytes of the whole block.
    pub(crate) len: u64,
}

/// Offsets in a block's page of gates.
pub(crate) const GATE: u64 = 0;
/// The cell that holds the address of the agent's entry. Not on the page that is wiped: a child that a signal handler forks
/// on top of a trampoline, between its look at the gate and its call, goes through this one.
pub(crate) const ENTRY_CELL: u64 = PAGE;
/// The first of the cells that count hits which trampolines turned away, one for each site of the block. Each is in a line of
/// its own, and none in that of the entry's cell, which every hit reads.
pub(crate) const SKIPPED_CELLS: u64 = ENTRY_CELL + LINE;

impl Block {
    /// A block for so many sites at address zero: what it will need.
    pub(crate) fn sized(sites: usize) -> Self {
        Self { address: 0, gates: block_gates(sites as u64), len: block_len(sites as u64) }
    }

    /// The cell of the block's site number `n`.
    pub(crate) fn skipped_cell(&self, n: usize) -> u64 {
        self.address + SKIPPED_CELLS + LINE * n as u64
    }

    /// Addresses of the trampolines.
    pub(crate) fn code(&self) -> Range<u64> {
        self.address + self.gates..self.address + self.len
    }

    /// The whole block.
    pub(crate) fn range(&self) -> Range<u64> {
        self.address..self.address + self.len
    }
}

const _: () = assert!((size_of::<Control>() as u64) < PAGE);
const _: () = assert!(GATE == 0 && block_gates(0) == 2 * PAGE && SKIPPED_CELLS == PAGE + LINE);
