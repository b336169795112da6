//! Heaps: one for booting and one in each context, over memory that the host mapped.
//!
//! A heap belongs to one thread at a time, so it needs no lock: the helper thread uses the boot heap or that of the
//! context it is filling; a hit uses the heap of the context that it is inside, and only when a probe traps (wasmtime
//! makes an error value). Free blocks go to a list of their size class and are used again; nothing is merged.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::Ordering;

use crate::context::current;
use crate::global::{BOOT_HEAP, booting};

/// Size classes: 16 bytes times a power of two, up to 2^26.
const CLASSES: usize = 23;

/// A heap at the start of its own memory.
#[repr(C)]
pub(crate) struct Heap {
    next: usize,
    end: usize,
    start: usize,
    free: [usize; CLASSES],
}

fn class(size: usize) -> (usize, usize) {
    let rounded = size.max(16).next_power_of_two();
    ((rounded.trailing_zeros() - 4) as usize, rounded)
}

impl Heap {
    /// Makes a heap of `start..end`.
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { next: start, end, start, free: [0; CLASSES] }
    }

    fn allocate(&mut self, layout: Layout) -> *mut u8 {
        let (class, size) = class(layout.size().max(layout.align()));
        let Some(head) = self.free.get_mut(class) else { return ptr::null_mut() };
        // One of a smaller alignment may be anywhere that is a multiple of 16.
        if *head != 0 && head.is_multiple_of(layout.align()) {
            let block = *head as *mut usize;
            // SAFETY: a free block of this class: at least 16 bytes of this heap, whose first word links to the next.
            *head = unsafe { block.read() };
            return block.cast();
        }
        let align = layout.align().max(16);
        let at = (self.next + align - 1) & !(align - 1);
        match at.checked_add(size) {
            Some(after) if after <= self.end => {
                self.next = after;
                at as *mut u8
            }
            _ => ptr::null_mut(),
        }
    }

    fn release(&mut self, block: *mut u8, layout: Layout) {
        let at = block as usize;
        if at < self.start || at >= self.end {
            return; // of another heap: left alone, because that heap belongs to another thread
        }
        let (class, _) = class(layout.size().max(layout.align()));
        if let Some(head) = self.free.get_mut(class) {
            // SAFETY: the block is at least 16 bytes of this heap and nobody uses it any more.
            unsafe { block.cast::<usize>().write(*head) };
            *head = at;
        }
    }
}

/// The heap of whoever is running.
fn running() -> *mut Heap {
    if booting() {
        return BOOT_HEAP.load(Ordering::Relaxed);
    }
    match current() {
        // SAFETY: the context of this thread, which is inside a hit: nobody else touches its heap.
        Some(context) => unsafe { &raw mut (*context).heap },
        None => ptr::null_mut(),
    }
}

struct Allocator;

// SAFETY: blocks are disjoint, aligned as asked (a fresh one is made so, one that is used again is looked at), and stay valid
// until they are released.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let heap = running();
        // SAFETY: `running` gives a heap that belongs to this thread now, or null.
        match unsafe { heap.as_mut() } {
            Some(heap) => heap.allocate(layout),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let heap = running();
        // SAFETY: as above.
        if let Some(heap) = unsafe { heap.as_mut() } {
            heap.release(block, layout);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
