//! Whose setting is whose: the process's, every virtual cluster's, one virtual cluster's.

use std::collections::BTreeMap;

use super::super::super::key::Key;
use super::super::super::keys::{self, KEYS};
use super::super::super::nearest::nearest;
use super::super::super::proxy_keys::{CLUSTER_KEYS, CLUSTER_PREFIX, PROXY_KEYS, find, of_cluster};
use super::super::super::source::Setting;
use super::super::super::{Sources, kafka_names};
use super::super::values::Values;

const CLUSTERS: &str = "virtual.clusters";

/// The settings of one virtual cluster: its own, else those for every cluster, else the defaults.
pub(super) struct Scope {
    /// The cluster's name.
    pub(super) name: String,
    /// Its settings.
    pub(super) values: Values,
    /// Whether there are others.
    pub(super) is_one_of_several: bool,
}

impl Scope {
    /// A key as it is written for this cluster alone.
    pub(super) fn written(&self, key: &str) -> String {
        if self.is_one_of_several {
            format!("{CLUSTER_PREFIX}{}.{key}", self.name)
        } else {
            key.to_owned()
        }
    }
}

/// All settings, sorted.
pub(super) struct Scopes {
    /// The process's settings, and whatever is wrong so far.
    pub(super) process: Values,
    /// Every virtual cluster, in the order of `virtual.clusters`.
    pub(super) clusters: Vec<Scope>,
}

impl Scopes {
    /// Sorts the settings of `sources`. A cluster's own setting wins over one for every cluster,
    /// wherever the two stand; of two of the same key the stronger source wins.
    pub(super) fn gather(sources: &Sources) -> Self {
        let mut problems = Vec::new();
        let mut process = Values::defaults(PROXY_KEYS);
        let mut shared = Values::defaults(CLUSTER_KEYS);
        let (mut of_process, mut of_all) = (BTreeMap::new(), BTreeMap::new());
        let mut of_one: BTreeMap<(String, &str), (&Key, Setting)> = BTreeMap::new();
        let mut unknown = Vec::new();
        for setting in sources.settings(&mut problems) {
            if let Some(key) = find(PROXY_KEYS, &setting.key) {
                of_process.insert(key.name, (key, setting));
            } else if let Some(key) = find(CLUSTER_KEYS, &setting.key) {
                of_all.insert(key.name, (key, setting));
            } else if let Some((cluster, key)) = of_cluster(&setting.key) {
                of_one.insert((cluster.to_owned(), key.name), (key, setting));
            } else {
                unknown.push(setting);
            }
        }
        for (key, setting) in of_process.into_values() {
            process.set(key, setting);
        }
        for (key, setting) in of_all.into_values() {
            shared.set(key, setting);
        }
        problems.extend(process.take_problems());
        problems.extend(shared.take_problems());
        process.absorb(problems);

        let names = names(&mut process);
        let mut clusters: Vec<Scope> = names
            .iter()
            .map(|name| {
                let is_one_of_several = names.len() > 1;
                let mut values = shared.clone();
                if is_one_of_several {
                    values.share();
                }
                Scope { name: name.clone(), values, is_one_of_several }
            })
            .collect();
        for ((cluster, _), (key, setting)) in of_one {
            match clusters.iter_mut().find(|scope| scope.name == cluster) {
                Some(scope) => scope.values.set(key, setting),
                None => unknown.push(setting),
            }
        }
        for setting in unknown {
            let hint = hint(&setting.key, &names);
            process.unknown(setting, hint);
        }
        Self { process, clusters }
    }
}

/// The names of the virtual clusters. They stand in keys, in names of environment variables and in
/// labels of metrics.
fn names(process: &mut Values) -> Vec<String> {
    const NAME_BYTES_MAX: usize = 63;
    let names = process.list(CLUSTERS).to_vec();
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if names.is_empty() {
        process.refuse(CLUSTERS, "must have a name");
    }
    if names.iter().any(|name| !name.bytes().all(legal) || name.len() > NAME_BYTES_MAX) {
        let expected = "must be names of lower-case letters, digits and hyphens, at most 63 \
                        each, separated by commas";
        process.refuse(CLUSTERS, expected);
    }
    let mut once: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if once.contains(&name) {
            process.refuse(CLUSTERS, &format!("must name each cluster once, also {name}"));
        } else {
            once.push(name);
        }
    }
    once
}

/// What a proxy's setting of an unknown key may be.
fn hint(unknown: &str, clusters: &[String]) -> String {
    if let Some((cluster, _)) = of_cluster(unknown) {
        let known = clusters.join(", ");
        return format!("{CLUSTERS} has no \"{cluster}\", only {known}");
    }
    let process = PROXY_KEYS.iter().map(|key| key.name);
    if let Some((_, key)) = unknown.strip_prefix(CLUSTER_PREFIX).and_then(|it| it.split_once('.'))
        && find(PROXY_KEYS, key).is_some()
    {
        return format!("{key} holds for all clusters: set it without a cluster's name");
    }
    if keys::find(unknown).is_some() || kafka_names::is_without_effect(unknown) {
        return "it is a key of the broker, not of the proxy: leave it out".to_owned();
    }
    let shared = CLUSTER_KEYS.iter().map(|key| key.name);
    let plain = process.chain(shared.clone()).map(str::to_owned);
    let of_one = clusters.iter().flat_map(|cluster| {
        let own = move |key| format!("{CLUSTER_PREFIX}{cluster}.{key}");
        CLUSTER_KEYS.iter().map(|key| key.name).map(own)
    });
    if let Some(key) = nearest(unknown, plain.chain(of_one)) {
        return format!("did you mean {key}?");
    }
    if let Some(key) = nearest(unknown, KEYS.iter().map(|key| key.name)) {
        return format!("{key}, which it resembles, is a key of the broker: leave it out");
    }
    "`tidegate config reference --proxy` lists every key".to_owned()
}
