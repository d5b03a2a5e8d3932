//! Any bytes as a request: its header is read, its body guarded and, if it passes, decoded.
//!
//! Held here: nothing panics; what the guard passes is decoded and survives a round trip; and
//! decoding allocates at most what the guard said, measured by counting allocations.
//!
//! Input: `i16 key | i16 version | body`, as in tests/wire/corpus.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::protocol::Request;
use libfuzzer_sys::fuzz_target;
use tidegate::protocol::guard::{GuardError, Limits, decode};
use tidegate::protocol::header::parse_request_header;

#[path = "../../wire/requests.rs"]
#[allow(dead_code)]
mod requests;

/// The system's allocator, which also counts what this thread holds and held at most.
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

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that `work` held at once beyond what was held before, in bytes.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

struct Decode<'a> {
    version: i16,
    body: &'a Bytes,
}

impl requests::Visit for Decode<'_> {
    type Out = ();

    fn visit<R: Request + Debug + PartialEq>(self) {
        let limits = Limits::CONTROL;
        let (result, peak) = peak_of(|| decode::<R>(self.version, self.body, limits));
        match result {
            Ok((request, bound)) => {
                assert!(peak <= bound as i64, "{peak} bytes allocated, {bound} announced");
                requests::assert_round_trip(&request, self.version, limits);
            }
            Err(GuardError::Undecodable { reason, .. }) => panic!("{reason}"),
            Err(_) => assert!(peak <= 0, "{peak} bytes allocated for a refused body"),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = parse_request_header(&Bytes::copy_from_slice(data));
    let Some((key, rest)) = data.split_first_chunk() else { return };
    let Some((version, body)) = rest.split_first_chunk() else { return };
    let (key, version) = (i16::from_be_bytes(*key), i16::from_be_bytes(*version));
    let body = Bytes::copy_from_slice(body);
    requests::dispatch(key, Decode { version, body: &body });
});
