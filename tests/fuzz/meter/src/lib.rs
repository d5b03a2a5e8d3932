//! How much memory a piece of work takes: the system's allocator, which also counts what each
//! thread holds and held at most.
//!
//! A crate of its own because an allocator is unsafe code, which Tidegate forbids itself. Naming
//! this crate in a test or a program is what installs the allocator there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that ends may free after its thread locals are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are held.
        count(size as i64);
        count(-(layout.size() as i64));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does `work`; beside its result the most bytes that this thread held at once meanwhile, beyond
/// what it held before. What other threads allocate is not seen.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    let outer = PEAK.replace(before);
    let result = work();
    let peak = PEAK.get();
    // The peak of an outer measurement includes this one.
    PEAK.set(outer.max(peak));
    (result, usize::try_from(peak - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::peak_of;

    #[test]
    fn the_peak_is_what_was_held_at_once() {
        let (sum, peak) = peak_of(|| {
            let first = vec![1_u8; 1_000];
            let sum = first.len();
            drop(first);
            sum + vec![0_u8; 3_000].len()
        });
        assert_eq!((sum, peak), (4_000, 3_000));
        let (((), inner), outer) = peak_of(|| {
            let held = vec![1_u8; 500];
            let inner = peak_of(|| drop(std::hint::black_box(vec![1_u8; 700])));
            drop(std::hint::black_box(held));
            inner
        });
        assert_eq!((inner, outer), (700, 1_200));
    }
}
