//! `LeaveGroup`: members leave, or an administrator removes static ones by instance id.

use tracing::info;

use crate::group::group::{ClassicGroup, Turn};
use crate::group::metrics::Reason;
use crate::group::types::{Error, LeaveRequest, LeavingMember, LeftMember, brief};

impl ClassicGroup {
    /// A `LeaveGroup`: each member by itself, then one rebalance for all.
    pub(in crate::group) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: LeaveRequest,
    ) -> Vec<LeftMember> {
        let mut left = Vec::with_capacity(request.members.len());
        for member in request.members {
            let result = self.leave_one(turn, &member);
            let LeavingMember { member_id, instance_id, .. } = member;
            left.push(LeftMember { member_id, instance_id, result });
        }
        if left.iter().any(|member| member.result.is_ok()) {
            self.member_gone(turn, Reason::MemberLeft);
        }
        left
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, member: &LeavingMember) -> Result<(), Error> {
        let id = if member.member_id.is_empty() {
            let instance_id = member.instance_id.as_ref().ok_or(Error::UnknownMemberId)?;
            self.static_members.get(instance_id).cloned().ok_or(Error::UnknownMemberId)?
        } else {
            if !self.pending.contains(&member.member_id) {
                self.check_member(&member.member_id, member.instance_id.as_ref())?;
            }
            member.member_id.clone()
        };
        info!(group = %self.id, member = %id, reason = brief(member.reason.as_ref()),
            "member leaves the group");
        self.drop_member(turn, &id);
        Ok(())
    }
}
