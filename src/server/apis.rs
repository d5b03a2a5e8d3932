//! The service's APIs as the door looks them up: by key, without a hash.

use super::service::ApiVersions;

/// `ApiVersions` (KIP-35), the one API that the door answers itself.
pub(super) const API_VERSIONS: i16 = 18;

/// An API behind the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ApiRow {
    /// The place of the API's handles in the metrics.
    pub(super) index: usize,
    /// Kafka's key.
    pub(super) key: i16,
    /// Kafka's name.
    pub(super) name: &'static str,
    min: i16,
    max: i16,
}

impl ApiRow {
    /// Whether `version` is advertised.
    pub(super) fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// The APIs of a service, asked for once when the door is bound.
#[derive(Debug)]
pub(super) struct ApiTable {
    rows: Vec<ApiRow>,
    /// Place in `rows` by API key.
    by_key: Vec<Option<usize>>,
}

impl ApiTable {
    /// The table of what `versions` advertises, with names from `name`.
    pub(super) fn new(versions: &ApiVersions, name: fn(i16) -> Option<&'static str>) -> Self {
        let mut table = Self { rows: Vec::new(), by_key: Vec::new() };
        for &(key, min, max) in &versions.apis {
            let Ok(place) = usize::try_from(key) else { continue };
            if table.by_key.len() <= place {
                table.by_key.resize(place + 1, None);
            }
            let index = table.rows.len();
            table.by_key[place] = Some(index);
            let name = name(key).unwrap_or("Unknown");
            table.rows.push(ApiRow { index, key, name, min, max });
        }
        table
    }

    /// The row of `key`.
    pub(super) fn find(&self, key: i16) -> Option<&ApiRow> {
        let place = usize::try_from(key).ok()?;
        let index = (*self.by_key.get(place)?)?;
        self.rows.get(index)
    }

    /// The names in the order of [`ApiRow::index`].
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows.iter().map(|row| row.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_advertised_keys_and_versions_are_found() {
        let versions = ApiVersions {
            apis: vec![(0, 0, 13), (18, 0, 4)],
            supported_features: Vec::new(),
            finalized_features: Vec::new(),
            finalized_features_epoch: -1,
        };
        let table = ApiTable::new(&versions, |key| (key == 0).then_some("Produce"));
        assert_eq!(table.find(0).map(|row| row.name), Some("Produce"));
        assert!(table.find(18).is_some_and(|row| row.serves(4) && !row.serves(5)));
        assert_eq!(table.find(18).map(|row| row.index), Some(1));
        assert!(table.find(1).is_none() && table.find(-1).is_none());
        assert!(table.find(i16::MAX).is_none());
    }
}
