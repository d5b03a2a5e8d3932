//! What a Fetch holds of the byte budget while it waits for records.
//!
//! One small request of a connection waits without its charge: an idle consumer has one, and ten
//! thousand of them must neither fill the pool of a small budget nor be woken, answered and asked
//! anew in turn for its sake. What they become is bounded by the connections, as read buffers are.
//! Further small ones, which only a peer has that pipelines its fetches, and all large ones keep
//! their charge and give way as soon as somebody waits for that pool.

use std::sync::Arc;

use crate::api::Context;
use crate::budget::{Charge, Pool, SMALL_REQUEST_BYTES};
use crate::server::service::Session;

/// What a request that waits holds, given back when this is dropped.
pub(super) enum Parked {
    /// The place of the connection's one that is not charged.
    Uncharged(Place),
    /// A charge of the pool.
    Charged { pool: Pool, _charge: Charge },
}

/// The place of a connection's request that waits without its charge.
pub(super) struct Place(Arc<Session>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.uncharged_wait.leave();
    }
}

impl Parked {
    /// What a request with this charge goes on with.
    pub(super) fn new(cx: &Context, charge: Charge) -> Self {
        if charge.bytes() > SMALL_REQUEST_BYTES {
            return Parked::Charged { pool: Pool::Receive, _charge: charge };
        }
        if cx.session.uncharged_wait.enter() {
            return Parked::Uncharged(Place(Arc::clone(&cx.session)));
        }
        Parked::Charged { pool: Pool::Small, _charge: charge }
    }

    /// Ends when somebody waits for what is charged. An uncharged request gives way with those of
    /// its connection that are: their replies wait for its own, in memory.
    pub(super) async fn wanted(&self, cx: &Context) {
        match self {
            Parked::Uncharged(Place(session)) => session.uncharged_wait.ended().await,
            Parked::Charged { pool, .. } => {
                cx.broker.budget().pool(*pool).wanted().await;
                cx.session.uncharged_wait.end();
            }
        }
    }
}
