//! Linear memories: each lies in the region of its context, where pages cost nothing until they are touched.

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::Ordering;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::global::{MEMORY_BASE, MEMORY_LEN};

/// Hands out the linear memory of the context that `boot::fill` is creating.
pub(crate) struct Creator;

// SAFETY: the memory is fresh zeroed anonymous memory of the region, used by one instance only, of the capacity that
// is reported, and it never moves.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        _: Option<usize>,
        _: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let base = MEMORY_BASE.swap(0, Ordering::Relaxed);
        let capacity = MEMORY_LEN.load(Ordering::Relaxed) as usize;
        if base == 0 {
            return Err(String::from("a second linear memory"));
        }
        if minimum > capacity {
            return Err(String::from("the memory's minimum is over the limit"));
        }
        Ok(Box::new(Memory { base, size: minimum, capacity }))
    }
}

struct Memory {
    base: u64,
    size: usize,
    capacity: usize,
}

// SAFETY: see `Creator`: `base` is valid for `capacity` bytes, of which `size` are accessible, all zero when new.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }
    fn byte_capacity(&self) -> usize {
        self.capacity
    }
    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > self.capacity {
            return Err(wasmtime::Error::msg("the memory's limit"));
        }
        self.size = new_size;
        Ok(())
    }
    fn as_ptr(&self) -> *mut u8 {
        self.base as *mut u8
    }
}
