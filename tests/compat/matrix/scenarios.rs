//! The one list of scenarios: a row of the table each.

use super::context::Context;

mod commits;
mod groups;
mod positions;
mod produce;
mod read;
pub mod restart;
mod topics;

/// What everybody does before anybody goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A client with topics of its own.
    Alone,
    /// A client reads what all have written in [`Phase::Alone`].
    Together,
    /// All clients at once, with a restart in the middle.
    Restart,
}

/// The phases in which scenarios stand for themselves, in their order.
pub const PHASES: [Phase; 2] = [Phase::Alone, Phase::Together];

/// A row of the table.
#[derive(Debug)]
pub struct Scenario {
    /// In topics, groups and results.
    pub id: &'static str,
    /// The row's head.
    pub title: &'static str,
    /// When it is run.
    pub phase: Phase,
    /// Runs it; a panic is a failure.
    pub run: fn(&Context<'_>),
}

const fn alone(id: &'static str, title: &'static str, run: fn(&Context<'_>)) -> Scenario {
    Scenario { id, title, phase: Phase::Alone, run }
}

/// Every row but the last.
pub static SCENARIOS: [Scenario; 29] = [
    // Those that wait for the group coordinator come first: others fill the time.
    alone("group-eager", "group of three under load, eager, joining and leaving", groups::eager),
    alone(
        "group-cooperative",
        "group of three under load, cooperative, joining and leaving",
        groups::cooperative,
    ),
    alone("group-static", "static members keep their partitions", groups::static_members),
    alone("recreate", "topic deleted and recreated under a running client", topics::recreated),
    alone("many-topics", "100 topics × 10 partitions", topics::many),
    alone("codec-none", "uncompressed, acks 0, 1 and all", produce::none),
    alone("codec-gzip", "gzip, acks 0, 1 and all", produce::gzip),
    alone("codec-snappy", "snappy, acks 0, 1 and all", produce::snappy),
    alone("codec-lz4", "lz4, acks 0, 1 and all", produce::lz4),
    alone("codec-zstd", "zstd, acks 0, 1 and all", produce::zstd),
    alone("headers-duplicate", "duplicate headers, in order", produce::duplicate_headers),
    alone("headers-null", "null header values, apart from empty ones", produce::null_headers),
    alone("nulls", "null keys and values, apart from empty ones", produce::nulls),
    alone("size-default", "a batch of 1,000,000 bytes, default settings", produce::default_size),
    alone("size-raised", "a record of 8 MiB, limits raised", produce::raised_size),
    alone("size-refused", "above the limit: MESSAGE_TOO_LARGE", produce::refused_size),
    alone("keys", "a key keeps its partition", produce::keys),
    alone("murmur2", "murmur2 puts keys where Java's default does", produce::murmur2),
    alone("idempotent", "idempotent producer", produce::idempotent),
    alone("commit-manual", "manual commit", commits::manual),
    alone("commit-metadata", "commit with metadata", commits::metadata),
    alone("commit-automatic", "automatic commit", commits::automatic),
    alone("seek-beginning", "seek to the beginning", positions::beginning),
    alone("seek-end", "seek to the end", positions::end),
    alone("seek-offset", "seek to an offset", positions::offset),
    alone("seek-time", "seek to a timestamp", positions::timestamp),
    alone("pause", "pause and resume", positions::pause),
    alone("retention", "consumer that was down past retention", positions::past_retention),
    Scenario {
        id: "read",
        title: "reads every client's batches of every codec, byte for byte",
        phase: Phase::Together,
        run: read::everything,
    },
];

/// The last row, whose two halves [`restart`] has.
pub static RESTART: Scenario = Scenario {
    id: "restart",
    title: "broker killed and started under load",
    phase: Phase::Restart,
    run: |_| unreachable!("its halves are called by themselves"),
};
