//! What every handler is given.

use std::sync::Arc;

use super::response_room;
use crate::broker::Broker;
use crate::budget::{Charge, Pool};
use crate::clock::Instant;
use crate::cluster::ClusterImage;
use crate::server::service::{Request, Session};

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// All handles of the broker.
    pub(crate) broker: Arc<Broker>,
    /// One view of the cluster for the whole request.
    pub(crate) image: Arc<ClusterImage>,
    /// The connection.
    pub(crate) session: Arc<Session>,
    /// The request's version.
    pub(crate) version: i16,
    /// The client's name for itself.
    pub(crate) client_id: Arc<str>,
    /// When the request had arrived.
    pub(crate) received: Instant,
}

impl Context {
    /// Takes room in the send pool for a response of about `bytes` that is about to be built. A
    /// response that is too small to be charged takes none, and one larger than the pool takes all
    /// of it: it must be possible in the smallest budget, and only one at a time.
    pub(crate) async fn room(&self, bytes: usize) -> Charge {
        response_room(self.broker.budget().pool(Pool::Send), bytes).await
    }

    pub(crate) fn new(broker: Arc<Broker>, session: Arc<Session>, request: &Request) -> Self {
        let image = broker.image();
        Self {
            broker,
            image,
            session,
            version: request.api_version,
            client_id: Arc::clone(&request.client_id),
            received: request.received,
        }
    }
}
