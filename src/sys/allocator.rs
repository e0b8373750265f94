//! What happens when the kernel gives no more memory (RLIMIT_AS, RLIMIT_DATA, vm.overcommit_memory=2).

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// What `run` ends with when a pod could not be started (docs/running.md).
const EXIT_CODE: i32 = 125;

/// The system's allocator. Where that has no memory left the process ends with a message and [`EXIT_CODE`]: the standard
/// library would end it by SIGABRT, with a core dump and without the limit's name.
pub struct Allocator;

// SAFETY: every method passes its arguments to `System` unchanged, whose contract is the caller's, and gives back what
// `System` gave; a null pointer does not return.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unless_null(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unless_null(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unless_null(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn unless_null(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() { end(size) } else { pointer }
}

#[cold]
fn end(size: usize) -> ! {
    let mut text = [0_u8; 256];
    let room = text.len();
    let mut rest = &mut text[..];
    // Formatting numbers into an array needs no memory.
    let _ = write!(
        rest,
        "error: out of memory: the kernel refused {size} more bytes (ENOMEM)\n\
         hint: raise the limit: ulimit -v unlimited, ulimit -d unlimited, or LimitAS= of the service\n"
    );
    let length = room - rest.len();
    // SAFETY: the pointer and the length are those of `text`.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), length) };
    // SAFETY: it takes no pointer; it does not return and runs nothing of ours.
    unsafe { libc::_exit(EXIT_CODE) }
}
