//! Where reading begins and ends: as it is typed, and as offsets.

use std::collections::BTreeMap;

use super::super::output::Failure;
use super::super::when;
use crate::client::{EARLIEST, LATEST, Leaders, ListedOffset, Listing, Place};

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Start {
    Beginning,
    End,
    Offset(i64),
    /// So many offsets before the end.
    Last(i64),
    /// With the first record of this time or later, in milliseconds since 1970.
    Time(i64),
}

/// Where reading ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stop {
    /// Where the partition ends when the command begins.
    End,
    /// Before this offset.
    Offset(i64),
    /// Before the first record of this time or later.
    Time(i64),
}

impl Start {
    /// Reads what is typed.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(last) = text.strip_prefix('-') {
            let count = digits(last).filter(|count| *count > 0);
            return count.map(Self::Last).ok_or_else(|| {
                "must be a number behind the -, such as -10 for the last ten records of each \
                 partition"
                    .to_owned()
            });
        }
        match (text, digits(text), when::datetime(text)) {
            ("beginning" | "earliest", _, _) => Ok(Self::Beginning),
            ("end" | "latest", _, _) => Ok(Self::End),
            (_, Some(offset), _) => Ok(Self::Offset(offset)),
            (_, _, Some(ms)) => Ok(Self::Time(ms)),
            _ => Err(format!(
                "must be beginning, end, an offset, -N for the last N, or a time, which {}",
                when::DATETIME
            )),
        }
    }
}

impl Stop {
    /// Reads what is typed.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        match (text, digits(text), when::datetime(text)) {
            ("end" | "latest", _, _) => Ok(Self::End),
            (_, Some(offset), _) => Ok(Self::Offset(offset)),
            (_, _, Some(ms)) => Ok(Self::Time(ms)),
            _ => Err(format!("must be end, an offset, or a time, which {}", when::DATETIME)),
        }
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// What of a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The first offset.
    pub(super) from: i64,
    /// The offset behind the last; none where there is no end.
    pub(super) until: Option<i64>,
}

/// What is asked of leaders, and what they tell, of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    start: i64,
    end: i64,
    /// The first record of the time to begin with, -1 if there is none.
    from_time: i64,
    /// The first record of the time to end before, -1 if there is none.
    to_time: i64,
}

/// Finds what is read of `places`. What has no sense for a partition is said in the second part.
pub(super) async fn find(
    leaders: &Leaders,
    listing: Listing,
    places: &[Place],
    (from, to): (Start, Option<Stop>),
    follow: bool,
) -> Result<(BTreeMap<Place, Bounds>, Vec<String>), Failure> {
    let starts = list(leaders, listing, places, EARLIEST).await?;
    let ends = list(leaders, listing, places, LATEST).await?;
    let from_times = match from {
        Start::Time(ms) => list(leaders, listing, places, ms).await?,
        _ => BTreeMap::new(),
    };
    let to_times = match to {
        Some(Stop::Time(ms)) => list(leaders, listing, places, ms).await?,
        _ => BTreeMap::new(),
    };
    let (mut found, mut odd) = (BTreeMap::new(), Vec::new());
    for place in places {
        let of = |offsets: &BTreeMap<Place, i64>| offsets.get(place).copied().unwrap_or(-1);
        let known = Known {
            start: of(&starts),
            end: of(&ends),
            from_time: of(&from_times),
            to_time: of(&to_times),
        };
        let (bounds, said) = known.bounds(from, to, follow);
        odd.extend(said.map(|said| format!("partition {}-{} {said}", place.0, place.1)));
        found.insert(place.clone(), bounds);
    }
    Ok((found, odd))
}

/// The offsets of a timestamp; a partition without an answer is a failure.
pub(super) async fn list(
    leaders: &Leaders,
    listing: Listing,
    places: &[Place],
    timestamp: i64,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let asked = places.iter().map(|place| (place.clone(), timestamp)).collect();
    let told = Box::pin(leaders.list_offsets(&asked, listing)).await;
    let told = told.into_iter().map(|(place, listed)| match listed {
        Ok(ListedOffset { offset, .. }) => Ok((place, offset)),
        Err(fault) => Err(Failure::failed(fault)),
    });
    told.collect()
}

impl Known {
    fn bounds(self, from: Start, to: Option<Stop>, follow: bool) -> (Bounds, Option<String>) {
        let Known { start, end, from_time, to_time } = self;
        let mut odd = None;
        let from = match from {
            Start::Beginning => start,
            Start::End => end,
            Start::Offset(offset) => {
                let inside = offset.clamp(start, end.max(start));
                if offset < start {
                    odd = Some(format!("begins at offset {start}; what was before it is gone"));
                } else if offset > end {
                    odd = Some(format!("ends at offset {end}, before {offset}"));
                }
                inside
            }
            Start::Last(count) => end.saturating_sub(count).max(start),
            Start::Time(_) if from_time < 0 => end,
            Start::Time(_) => from_time,
        };
        let until = match to {
            None if follow => None,
            None | Some(Stop::End) => Some(end),
            Some(Stop::Offset(offset)) if follow => Some(offset),
            Some(Stop::Offset(offset)) => Some(offset.min(end)),
            Some(Stop::Time(_)) if to_time < 0 => Some(end),
            Some(Stop::Time(_)) => Some(to_time),
        };
        (Bounds { from, until }, odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_word_an_offset_a_count_or_a_time() {
        for (text, from) in [
            ("beginning", Start::Beginning),
            ("earliest", Start::Beginning),
            ("end", Start::End),
            ("latest", Start::End),
            ("0", Start::Offset(0)),
            ("42", Start::Offset(42)),
            ("-5", Start::Last(5)),
            ("@1795348800000", Start::Time(1_795_348_800_000)),
            ("2026-11-22T12:00:00.000Z", Start::Time(1_795_348_800_000)),
            ("2026-11-22T14:00+02:00", Start::Time(1_795_348_800_000)),
        ] {
            assert_eq!(Start::parse(text), Ok(from), "{text}");
        }
        for wrong in
            ["", "-", "-0", "--5", "-x", "+5", "start", "1.5", "9223372036854775808", "@-1"]
        {
            assert!(Start::parse(wrong).unwrap_err().starts_with("must be "), "{wrong}");
        }
    }

    #[test]
    fn an_end_is_a_word_an_offset_or_a_time() {
        assert_eq!(Stop::parse("end"), Ok(Stop::End));
        assert_eq!(Stop::parse("7"), Ok(Stop::Offset(7)));
        assert_eq!(Stop::parse("@7"), Ok(Stop::Time(7)));
        for wrong in ["", "-7", "beginning", "x"] {
            assert!(Stop::parse(wrong).unwrap_err().starts_with("must be "), "{wrong}");
        }
    }

    /// A partition with offsets 10 to 20, whose record of the one time is at 12 and of the other
    /// not there.
    const KNOWN: Known = Known { start: 10, end: 20, from_time: 12, to_time: -1 };

    #[test]
    fn bounds_lie_inside_of_what_is_there() {
        let from = |from| KNOWN.bounds(from, None, true);
        assert_eq!(from(Start::Beginning), (Bounds { from: 10, until: None }, None));
        assert_eq!(from(Start::End).0.from, 20);
        assert_eq!(from(Start::Offset(15)), (Bounds { from: 15, until: None }, None));
        assert_eq!(from(Start::Offset(20)), (Bounds { from: 20, until: None }, None));
        let gone = from(Start::Offset(9));
        assert_eq!((gone.0.from, gone.1.unwrap().contains("begins at offset 10")), (10, true));
        let late = from(Start::Offset(21));
        assert_eq!((late.0.from, late.1.unwrap().contains("ends at offset 20")), (20, true));
        assert_eq!(from(Start::Last(3)).0.from, 17);
        assert_eq!(from(Start::Last(i64::MAX)).0.from, 10);
        assert_eq!(from(Start::Time(1)).0.from, 12);
        let none = Known { from_time: -1, ..KNOWN };
        assert_eq!(none.bounds(Start::Time(1), None, false).0.from, 20);
    }

    #[test]
    fn an_end_is_that_of_now_unless_it_is_waited_for() {
        let until = |to, follow| KNOWN.bounds(Start::Beginning, to, follow).0.until;
        assert_eq!(until(None, true), None);
        assert_eq!(until(None, false), Some(20));
        assert_eq!(until(Some(Stop::End), false), Some(20));
        assert_eq!(until(Some(Stop::Offset(15)), false), Some(15));
        assert_eq!(until(Some(Stop::Offset(25)), false), Some(20));
        assert_eq!(until(Some(Stop::Offset(25)), true), Some(25));
        assert_eq!(until(Some(Stop::Time(1)), false), Some(20));
        let there = Known { to_time: 13, ..KNOWN };
        assert_eq!(there.bounds(Start::Beginning, Some(Stop::Time(1)), false).0.until, Some(13));
    }
}
