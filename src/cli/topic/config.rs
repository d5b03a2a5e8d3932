//! `tidegate topic config …`.

use super::super::args::topic::TopicConfig;
use super::super::configs::{self, Resource};
use super::super::output::{Failure, Output};
use super::super::session::Session;

/// Gets or changes the configuration of a topic.
pub(super) async fn config(
    session: &Session,
    output: Output,
    action: &TopicConfig,
) -> Result<(), Failure> {
    let (TopicConfig::Get { topic, .. }
    | TopicConfig::Set { topic, .. }
    | TopicConfig::Unset { topic, .. }) = action;
    // A topic that is misspelt is told so, with the one that was meant.
    session.topics(std::slice::from_ref(topic)).await?;
    let of = Resource::Topic(topic);
    match action {
        TopicConfig::Get { keys, all, .. } => configs::get(session, output, of, keys, *all).await,
        TopicConfig::Set { pairs, execute, .. } => {
            configs::change(session, output, of, &configs::set(pairs), *execute).await
        }
        TopicConfig::Unset { keys, execute, .. } => {
            configs::change(session, output, of, &configs::unset(keys), *execute).await
        }
    }
}
