//! What is behind the last partition: the nodes' addresses, and tags.

use bytes::Bytes;

use super::super::{Address, Routes, rewrite};
use super::{StreamError, Streamed, tags};
use crate::protocol::guard::shape::{Field, Message};
use crate::protocol::guard::{GuardError, Limits};
use crate::protocol::varint;

/// The field that the tail begins with, or has among its tags.
pub(super) const NODE_ENDPOINTS: &str = "NodeEndpoints";

/// Leads to no node.
struct Nowhere;

impl Routes for Nowhere {
    fn route(&self, _: i32) -> Option<Address> {
        None
    }
}

/// Rewrites the tail of a body that has `before` bytes ahead of it. The rest of the work is
/// [`rewrite`]'s, for which the tail becomes that of a response without partitions.
pub(super) fn rewrite_tail(
    message: &'static Message,
    version: i16,
    tail: &mut [u8],
    before: usize,
    routes: &impl Routes,
) -> Result<Streamed, StreamError> {
    let head = empty_head(message, version);
    let body = Bytes::from([&head, &*tail].concat());
    let whole = |error| in_whole(error, before, head.len());
    let found = rewrite(message.key, version, &body, Limits::CONTROL, routes).map_err(whole)?;
    let streamed = Streamed { edits: found.edits, nodes: found.nodes };
    if streamed.edits == 0 {
        return Ok(streamed);
    }
    let new = found.pieces.concat().split_off(head.len());
    if let Some(filled) = filled(message, version, new, tail.len()) {
        tail.copy_from_slice(&filled);
        return Ok(streamed);
    }
    let found = rewrite(message.key, version, &body, Limits::CONTROL, &Nowhere).map_err(whole)?;
    let new = found.pieces.concat().split_off(head.len());
    let bytes = tail.len().saturating_sub(new.len());
    let unfilled = StreamError::Unfilled { api: message.name, version, bytes };
    tail.copy_from_slice(&filled(message, version, new, tail.len()).ok_or(unfilled)?);
    Ok(streamed)
}

/// The fields ahead of the tail, of a response without anything.
fn empty_head(message: &'static Message, version: i16) -> Vec<u8> {
    let mut head = Vec::with_capacity(32);
    let fields = message.root.fields.iter().filter(|field| field.is_plain(version));
    for field in fields.take_while(|field| field.name != NODE_ENDPOINTS) {
        match field.of.fixed_size() {
            Some(size) if !field.array => head.resize(head.len() + size, 0),
            // Compact: one more than nothing.
            _ => head.push(1),
        }
    }
    head
}

/// `tail` with a tag more, so that it has `bytes`; nothing if it has more or cannot have so many.
fn filled(message: &'static Message, version: i16, tail: Vec<u8>, bytes: usize) -> Option<Vec<u8>> {
    if tail.len() == bytes {
        return Some(tail);
    }
    let is_plain = |field: &Field| field.name == NODE_ENDPOINTS && field.is_plain(version);
    let counted = if message.root.fields.iter().any(is_plain) {
        // Unknown tags have been left out and there are no others: their number is the last one.
        let (_, before) = tail.split_last()?;
        before.iter().rposition(|byte| byte & 0x80 == 0).map_or(0, |end| end + 1)
    } else {
        0
    };
    let (endpoints, section) = tail.split_at_checked(counted)?;
    let (count, width) = varint::read_u32(section).ok()?;
    let mut filled = Vec::with_capacity(bytes);
    filled.extend_from_slice(endpoints);
    varint::put_u32(&mut filled, count.checked_add(1)?);
    filled.extend_from_slice(section.get(width..)?);
    let filler = tags::filler(bytes.checked_sub(filled.len())?)?;
    filled.extend_from_slice(&filler);
    Some(filled)
}

/// The error, with the place that it has in the whole body.
fn in_whole(error: GuardError, before: usize, head: usize) -> GuardError {
    match error {
        GuardError::Malformed { api, version, field, offset, fault } => {
            let offset = before + offset.saturating_sub(head);
            GuardError::Malformed { api, version, field, offset, fault }
        }
        other => other,
    }
}
