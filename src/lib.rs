//! Tidegate: one binary between Kafka clients and object storage.
//!
//! # The map
//!
//! Rooms have ranks; a file uses rooms of lower rank or its own (`tests/tidy.rs` holds the table).
//!
//! | rank | room | what it owns |
//! |---|---|---|
//! | 0 | [`clock`] [`shutdown`] [`budget`] [`task`] [`metrics`] | injected time and chance, drain, the byte budget, named tasks, the registry |
//! | 1 | [`config`] | the server's configuration and the topic keys |
//! | 1 | [`protocol`] | what Kafka bytes mean: frames, headers, the guard, versions, batches, records |
//! | 2 | [`object`] | the bucket: store stack, create-once objects, uploads, numbered logs, probe |
//! | 2 | [`security`] | who is at the other end: TLS on both sides |
//! | 3 | [`wal`] | the one write-ahead log: groups, durability, recovery, checkpoints |
//! | 3 | [`tier`] | tiered objects: their format, writer, reader, upload and cache |
//! | 3 | [`server`] | the front door: sockets, limits, order, back-pressure; knows the trait `Service` only |
//! | 3 | [`client`] | connections that this process opens to other Kafka servers |
//! | 4 | [`cluster`] | the metadata log and the immutable image that it folds into |
//! | 5 | [`partition`] | one partition: append, read, watermarks, producers, index, retention, references to tiered objects, compaction |
//! | 6 | [`group`] | the group coordinator and `__consumer_offsets` |
//! | 7 | [`broker`] | all handles in one place, and the background loops |
//! | 8 | [`api`] | the broker's back end: one file per Kafka API |
//! | 8 | [`proxy`] | the proxy's back end; so far its policy and the rewriting of responses |
//! | 9 | [`admin`] [`cli`] | HTTP for operators; commands |
//! | 10 | [`run`] | assembly: what starts and stops in which order |
//!
//! # A Produce, straight down
//!
//! `server` reads a frame into bytes that the budget has granted and calls the service, strictly in
//! the order of the connection's requests. `api::produce` walks the body with its own cursor,
//! checks each batch's header and CRC, and asks the WAL's pool for the whole request at once.
//! `partition` then, under its plain mutex, checks the sequence, gives out offsets and reserves a
//! place in the open WAL group, which makes the WAL's order the offsets' order; outside the mutex
//! the batch is copied once, with its base offset and leader epoch patched in. The WAL's thread
//! writes the group and syncs it while the next one fills. The reply was a future all along: it is
//! ready when the durable LSN passes the request's last record, and leaves after the replies before
//! it.
//!
//! # A Fetch, straight down
//!
//! `api::fetch` takes one metadata image and reads each partition below its high watermark: slices
//! of the WAL's own blocks while they are in memory, ranges of the WAL's files after that. Bytes
//! go to the socket as they are, in one vectored write. Under `min_bytes` the reply waits for the
//! partitions, until `max_wait`, and then reads once more. What is no longer on this machine is
//! read from the bucket, a chunk of some tiered object at a time, through the cache that `tier`
//! keeps; a load that takes longer than the Fetch may wait is there for the next one.
//!
//! # The way to the bucket
//!
//! `broker`'s tiering task looks each second at what the bucket has not got, and makes objects of
//! it: of one partition if that has enough, of many otherwise. What is uploaded is synced before;
//! then each partition refers to its section by a `CommitTier` record in the WAL, which alone says
//! what is where. Files of the WAL are given back when a checkpoint covers them and the bucket has
//! all of them. What no partition refers to any more is garbage, deleted after a checkpoint in the
//! bucket without it.
//!
//! # What never bends
//!
//! - Offsets are given out before durability; acknowledgement and high watermark follow only the
//!   contiguous durable prefix.
//! - A user's batch is opaque: 12 bytes outside its CRC are patched, nothing else.
//! - The first failed sync ends the process. An unknown outcome stays unknown until read back.
//! - Time never decides safety, and no input allocates out of proportion to its bytes.

pub mod budget;
pub mod clock;
mod failpoint;
pub mod log_limit;
pub mod metrics;
pub mod shutdown;
pub mod task;

pub mod config;
pub mod protocol;

pub mod object;
pub mod security;

pub mod client;
pub mod server;
pub mod tier;
pub mod wal;

pub mod cluster;

pub mod partition;

pub mod group;

pub mod broker;

pub mod api;
pub mod proxy;

pub mod admin;
pub mod cli;

pub mod run;
