//! `TOPIC` and `TOPIC:0,1`: topics and partitions as they are typed.

use std::collections::BTreeSet;

use super::output::Failure;
use super::session::{Place, Session, Topic};

/// A topic, or some partitions of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The topic.
    pub(super) topic: String,
    /// The partitions; all without any.
    pub(super) partitions: BTreeSet<i32>,
}

/// Reads one. What a topic's name cannot have, a colon, begins the partitions.
pub(super) fn parse(text: &str) -> Result<Named, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "\"{text}\" is neither a topic nor partitions of one, such as orders:0,1"
        ))
    };
    let (topic, list) = match text.split_once(':') {
        None => (text, None),
        Some((topic, list)) => (topic, Some(list)),
    };
    let items = list.into_iter().flat_map(|list| list.split(','));
    let number = |item: &str| item.trim().parse::<i32>().ok().filter(|index| *index >= 0);
    let partitions: Option<BTreeSet<i32>> = items.map(number).collect();
    let topic = topic.trim().to_owned();
    match partitions {
        Some(partitions) if !topic.is_empty() => Ok(Named { topic, partitions }),
        _ => Err(wrong()),
    }
}

/// The topics of all, and the partitions that are meant. A partition that is not there is an error.
pub(super) async fn find(
    session: &Session,
    texts: &[String],
) -> Result<(Vec<Topic>, BTreeSet<Place>), Failure> {
    let named: Vec<Named> = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    let names: BTreeSet<String> = named.iter().map(|it| it.topic.clone()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let topics = session.topics(&names).await?;
    let mut places = BTreeSet::new();
    for Named { topic, partitions } in named {
        let found = topics.iter().find(|it| it.name == topic);
        let there: BTreeSet<i32> =
            found.into_iter().flat_map(|it| &it.partitions).map(|it| it.index).collect();
        if let Some(missing) = partitions.difference(&there).next() {
            let count = there.len();
            return Err(Failure::Failed(format!(
                "topic {topic} has no partition {missing}; it has {count}, from 0 on"
            )));
        }
        let meant = if partitions.is_empty() { there } else { partitions };
        places.extend(meant.into_iter().map(|index| (topic.clone(), index)));
    }
    Ok((topics, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_have_its_partitions_behind_a_colon() {
        let named = |topic: &str, partitions: &[i32]| Named {
            topic: topic.to_owned(),
            partitions: partitions.iter().copied().collect(),
        };
        assert_eq!(parse("orders"), Ok(named("orders", &[])));
        assert_eq!(parse("orders:0, 2,2"), Ok(named("orders", &[0, 2])));
        for wrong in ["", ":0", "orders:", "orders:a", "orders:-1", "orders:0,,1", "orders:0:1"] {
            assert!(matches!(parse(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
