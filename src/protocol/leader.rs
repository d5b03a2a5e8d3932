//! Where to go instead (KIP-951): with an error that says "not the leader" Produce and Fetch
//! responses name the present leader and its address in tagged fields, so that a client need not
//! refresh its metadata first.

use bytes::{BufMut, BytesMut};

use super::varint;
use super::wire::{put_length, put_nullable_string};

/// The present leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The leader's broker id, or -1 if it is not known.
    pub leader_id: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
}

/// The address of a broker that some [`LeaderIdAndEpoch`] of the same response names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub node_id: i32,
    /// Its host name, as the client is to resolve it.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

/// Bytes of a [`LeaderIdAndEpoch`]: two INT32 and no tagged fields.
const LEADER_BYTES: u32 = 9;

/// Writes the tagged field `tag` with the leader.
pub(super) fn put_leader(out: &mut impl BufMut, tag: u32, leader: LeaderIdAndEpoch) {
    varint::put_u32(out, tag);
    varint::put_u32(out, LEADER_BYTES);
    out.put_i32(leader.leader_id);
    out.put_i32(leader.leader_epoch);
    out.put_u8(0);
}

/// Writes a response's closing tagged fields: its endpoints under tag 0, or none.
pub(super) fn put_endpoints(out: &mut impl BufMut, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        out.put_u8(0);
        return;
    }
    let mut field = BytesMut::with_capacity(endpoints_max_len(endpoints));
    put_length(&mut field, true, endpoints.len());
    for endpoint in endpoints {
        field.put_i32(endpoint.node_id);
        put_nullable_string(&mut field, true, Some(&endpoint.host));
        field.put_i32(endpoint.port);
        put_nullable_string(&mut field, true, endpoint.rack.as_deref());
        field.put_u8(0);
    }
    out.put_u8(1);
    out.put_u8(0);
    varint::put_u64(out, field.len() as u64);
    out.put_slice(&field);
}

/// At most what [`put_endpoints`] writes.
pub(super) fn endpoints_max_len(endpoints: &[NodeEndpoint]) -> usize {
    let each = |endpoint: &NodeEndpoint| {
        endpoint.host.len() + endpoint.rack.as_ref().map_or(0, String::len) + 15
    };
    12 + endpoints.iter().map(each).sum::<usize>()
}
