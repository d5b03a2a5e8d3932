//! libFuzzer's end of the targets: one program for all, told by `TIDEGATE_FUZZ_TARGET` which.

#![no_main]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;

mod targets;

/// What was last said about memory.
static SAID: AtomicUsize = AtomicUsize::new(0);

fn chosen() -> fn(&[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("TIDEGATE_FUZZ_TARGET").unwrap_or_default();
        let known = targets::TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("TIDEGATE_FUZZ_TARGET is \"{name}\", not one of {known}")).1
    })
}

fuzz_target!(|data: &[u8]| {
    chosen()(data);
    let largest = targets::LARGEST.load(Ordering::Relaxed);
    if largest > SAID.swap(largest, Ordering::Relaxed) {
        eprintln!("largest allocation: {largest}");
    }
});
