use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::group::reply;
use crate::group::types::{JoinRequest, Protocol};

fn request(metadata: usize, rebalance_timeout_ms: i32) -> JoinRequest {
    JoinRequest {
        group: "g".into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![0; metadata].into() }],
        member_id_required: false,
        can_skip_assignment: false,
        reason: None,
    }
}

proptest! {
    /// Whatever is done to members, the totals are what looking at each of them gives.
    #[test]
    fn totals_are_those_of_the_members(
        steps in prop::collection::vec((0..5_u8, 0..6_u8, 0..50_u16), 1..60),
    ) {
        let start = Clock::system().now();
        let mut members = Members::default();
        for (what, who, much) in steps {
            let id: Name = format!("m{who}").into();
            let at = start + Duration::from_millis(u64::from(much));
            match what {
                0 => {
                    let (waiter, _) = reply::channel();
                    let request = request(usize::from(much), i32::from(much));
                    members.insert(Member::joining(id, &request, waiter));
                }
                1 => drop(members.remove(&id)),
                2 => drop(members.change(&id, |member| {
                    member.deadline = Some(at);
                    drop(member.joining.take());
                })),
                3 => members.change_all(|member| {
                    member.assignment = Bytes::from(vec![0; usize::from(much)]);
                    member.deadline = None;
                }),
                _ => drop(members.change(&id, |member| {
                    member.rebalance_timeout = Duration::from_millis(u64::from(much));
                    member.touch(at);
                })),
            }
            let joining = members.iter().filter(|member| member.joining.is_some()).count();
            prop_assert_eq!(members.joining(), joining);
            let longest = members.iter().map(|member| member.rebalance_timeout).max();
            prop_assert_eq!(members.rebalance_timeout(), longest.unwrap_or_default());
            let next = members.iter().filter_map(|member| member.deadline).min();
            prop_assert_eq!(members.next_deadline(), next);
            let due = members.iter().filter(|member| member.deadline.is_some_and(|it| it <= at));
            prop_assert_eq!(members.due(at).len(), due.count());
            prop_assert_eq!(members.bytes(), members.iter().map(Member::weight).sum::<usize>());
        }
    }
}
