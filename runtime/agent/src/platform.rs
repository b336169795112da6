//! What wasmtime asks of its platform (its `custom-virtual-memory` and `custom-sync-primitives` interfaces).
//!
//! There is no virtual memory to manage: code lies where the host put it, linear memories come from `memory`. There
//! is no lock to take: everything that wasmtime's locks guard is written while booting, before a gate is open, and
//! only read afterwards.

use core::ptr;
use core::sync::atomic::Ordering;

use crate::context::current;
use crate::global::{BOOT_TLS, booting};

const ENOSYS: i32 = 38;

/// wasmtime's thread-local slot: a field of the context, or of the helper thread.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(_slot: usize) -> *mut u8 {
    if booting() {
        return BOOT_TLS.load(Ordering::Relaxed);
    }
    match current() {
        // SAFETY: this thread's context, which is inside a hit.
        Some(context) => unsafe { (*context).tls },
        None => ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(_slot: usize, value: *mut u8) {
    if booting() {
        BOOT_TLS.store(value, Ordering::Relaxed);
    } else if let Some(context) = current() {
        // SAFETY: this thread's context, which is inside a hit.
        unsafe { (*context).tls = value };
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(_size: usize, _prot: u32, _ret: &mut *mut u8) -> i32 {
    ENOSYS
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_remap(_addr: *mut u8, _size: usize, _prot: u32) -> i32 {
    ENOSYS
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_munmap(_ptr: *mut u8, _size: usize) -> i32 {
    ENOSYS
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mprotect(_ptr: *mut u8, _size: usize, _prot: u32) -> i32 {
    ENOSYS
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    trocar_abi::PAGE as usize
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_new(_ptr: *const u8, _len: usize, ret: &mut *mut u8) -> i32 {
    *ret = ptr::null_mut(); // "no image", which is no failure
    0
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_map_at(_image: *mut u8, _addr: *mut u8, _len: usize) -> i32 {
    ENOSYS
}
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_free(_image: *mut u8) {}

macro_rules! no_lock {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(_lock: *mut usize) {}
    )*};
}
no_lock! {
    wasmtime_sync_lock_free wasmtime_sync_lock_acquire wasmtime_sync_lock_release
    wasmtime_sync_rwlock_read wasmtime_sync_rwlock_read_release
    wasmtime_sync_rwlock_write wasmtime_sync_rwlock_write_release wasmtime_sync_rwlock_free
}
