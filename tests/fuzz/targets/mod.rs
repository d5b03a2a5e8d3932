//! What is fuzzed: one function per target, which takes any bytes and panics when a promise is
//! broken. `fuzz.rs` hands them what libFuzzer makes up; `replay.rs` hands them the seeds, on any
//! toolchain, in the ordinary suites.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_fuzz_meter::peak_of;

mod answers;
mod batches;
mod chance;
mod codecs;
mod config;
mod disk;
mod frames;
mod requests;
mod responses;
mod rewrites;
mod stored;
mod tier;
mod wal;

/// A target: its name, which is also that of the folder of its seeds, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("frames", frames::run),
    ("requests", requests::run),
    ("responses", responses::run),
    ("batches", batches::run),
    ("codecs", codecs::run),
    ("wal", wal::run),
    ("config", config::run),
    ("stored", stored::run),
    ("tier", tier::run),
    ("rewrites", rewrites::run),
    ("answers", answers::run),
];

/// The most that any measured work has allocated, in bytes.
pub static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Does `work` and holds that it allocates at most `cap` bytes at once.
fn within<T>(cap: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(work);
    LARGEST.fetch_max(peak, Ordering::Relaxed);
    assert!(peak <= cap, "{peak} bytes were allocated where {cap} are allowed");
    result
}
