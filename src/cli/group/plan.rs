//! Where the offsets of a group are moved to: the scenarios of Kafka's `ConsumerGroupCommand`, and
//! the CSV that it exports and takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::super::args::group::ResetTo;
use super::super::output::Failure;
use super::super::session::{EARLIEST, LATEST, Place};
use super::super::when;

/// Where offsets are moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// The start of the log.
    Earliest,
    /// The end of the log.
    Latest,
    /// What is committed, else the end of the log.
    Current,
    /// An offset, or the nearest one.
    Offset(i64),
    /// So many on from what is committed.
    Shift(i64),
    /// The first record of this time, in milliseconds since 1970, else the end of the log.
    Time(i64),
    /// What a file says, by group.
    Plans(Plans),
}

/// Offsets by group, or of the one group that is asked for.
pub(super) type Plans = BTreeMap<Option<String>, BTreeMap<Place, i64>>;

/// What is known of a partition when its offset is moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) committed: Option<i64>,
    /// The first offset of [`Scenario::Time`]; -1 where there is none.
    pub(super) at_time: i64,
}

/// Where one offset is moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) offset: i64,
    /// Why it is not what was asked for.
    pub(super) because: Option<&'static str>,
}

impl Scenario {
    /// What the flags ask for; `now_ms` is what a duration is counted back from.
    pub(super) fn read(to: &ResetTo, now_ms: i64, csv: Option<Plans>) -> Result<Self, Failure> {
        if let Some(text) = &to.to_datetime {
            return when::datetime(text).map(Self::Time).ok_or_else(|| {
                Failure::Usage(format!("--to-datetime \"{text}\" {}", when::DATETIME))
            });
        }
        if let Some(text) = &to.by_duration {
            let time = when::duration(text).and_then(|length| now_ms.checked_sub(length));
            return time.filter(|ms| *ms >= 0).map(Self::Time).ok_or_else(|| {
                Failure::Usage(format!("--by-duration \"{text}\" {}", when::DURATION))
            });
        }
        Ok(match (to, csv) {
            (_, Some(plans)) => Self::Plans(plans),
            (ResetTo { to_offset: Some(offset), .. }, None) => Self::Offset(*offset),
            (ResetTo { shift_by: Some(count), .. }, None) => Self::Shift(*count),
            (ResetTo { to_earliest: true, .. }, None) => Self::Earliest,
            (ResetTo { to_current: true, .. }, None) => Self::Current,
            (_, None) => Self::Latest,
        })
    }

    /// The timestamps that leaders are asked for.
    pub(super) fn timestamps(&self) -> Vec<i64> {
        match self {
            Self::Time(ms) => vec![EARLIEST, LATEST, *ms],
            _ => vec![EARLIEST, LATEST],
        }
    }

    /// Where the offset of a partition is moved to, or why it cannot be.
    pub(super) fn target(
        &self,
        group: &str,
        place: &Place,
        known: Known,
    ) -> Result<Moved, &'static str> {
        let exactly = |offset: i64| Moved { offset, because: None };
        Ok(match self {
            Self::Earliest => exactly(known.start),
            Self::Latest => exactly(known.end),
            Self::Current => match known.committed {
                Some(offset) => exactly(offset),
                None => {
                    Moved { offset: known.end, because: Some("nothing is committed: to the end") }
                }
            },
            Self::Offset(offset) => within(*offset, known),
            Self::Shift(count) => {
                let committed = known.committed.ok_or("there is no committed offset to shift")?;
                within(committed.saturating_add(*count), known)
            }
            Self::Time(_) if known.at_time < 0 => {
                Moved { offset: known.end, because: Some("no record is so young: to the end") }
            }
            Self::Time(_) => exactly(known.at_time),
            Self::Plans(plans) => {
                let wanted = of_group(plans, group).and_then(|plan| plan.get(place));
                within(*wanted.ok_or("the file does not have it")?, known)
            }
        })
    }
}

/// The plan for a group.
pub(super) fn of_group<'a>(plans: &'a Plans, group: &str) -> Option<&'a BTreeMap<Place, i64>> {
    plans.get(&None).or_else(|| plans.get(&Some(group.to_owned())))
}

fn within(offset: i64, known: Known) -> Moved {
    if offset > known.end {
        Moved { offset: known.end, because: Some("the partition ends there") }
    } else if offset < known.start {
        Moved { offset: known.start, because: Some("the partition begins there") }
    } else {
        Moved { offset, because: None }
    }
}

/// Reads lines of `topic,partition,offset`, where one group is asked for, or of
/// `group,topic,partition,offset`.
pub(super) fn from_csv(path: &Path, text: &str, is_one_group: bool) -> Result<Plans, Failure> {
    let mut plans = Plans::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: &str| {
            let forms = if is_one_group {
                "topic,partition,offset or group,topic,partition,offset"
            } else {
                "group,topic,partition,offset, since several groups are asked for"
            };
            let place = format!("{}:{}", path.display(), at + 1);
            Failure::Usage(format!("{place}: {reason}; a line must be {forms}"))
        };
        let fields = fields(line).ok_or_else(|| wrong("a quote is not closed"))?;
        let (group, rest) = match fields.as_slice() {
            [topic, partition, offset] if is_one_group => (None, [topic, partition, offset]),
            [group, topic, partition, offset] => (Some(group.clone()), [topic, partition, offset]),
            _ => return Err(wrong("the number of fields is wrong")),
        };
        let [topic, partition, offset] = rest;
        let index = partition.parse::<i32>().ok().filter(|index| *index >= 0);
        let index = index.ok_or_else(|| wrong("the partition is no number"))?;
        let offset = offset.parse::<i64>().map_err(|_| wrong("the offset is no number"))?;
        plans.entry(group).or_default().insert((topic.clone(), index), offset);
    }
    Ok(plans)
}

/// The fields of a line; one in quotes may have commas, and quotes that stand twice.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut chars = line.trim().chars().peekable();
    let mut quoted = false;
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            char => fields.last_mut()?.push(char),
        }
    }
    (!quoted).then(|| fields.iter().map(|field| field.trim().to_owned()).collect())
}

/// Writes what [`from_csv`] reads, with the group in front where several were asked for.
pub(super) fn to_csv<'a>(
    rows: impl Iterator<Item = (&'a str, &'a Place, i64)>,
    is_one_group: bool,
) -> String {
    let mut out = String::new();
    for (group, (topic, index), offset) in rows {
        if !is_one_group {
            out.push_str(&quoted(group));
            out.push(',');
        }
        let _ = writeln!(out, "{},{index},{offset}", quoted(topic));
    }
    out
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r', ' ']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { start: 10, end: 100, committed: Some(50), at_time: 60 };

    fn place() -> Place {
        ("t".to_owned(), 3)
    }

    fn target(scenario: &Scenario, known: Known) -> Result<i64, &'static str> {
        scenario.target("g", &place(), known).map(|moved| moved.offset)
    }

    #[test]
    fn each_scenario_moves_to_where_kafka_does() {
        let nothing = Known { committed: None, at_time: -1, ..KNOWN };
        for (scenario, offset, without) in [
            (Scenario::Earliest, 10, Ok(10)),
            (Scenario::Latest, 100, Ok(100)),
            (Scenario::Current, 50, Ok(100)),
            (Scenario::Offset(70), 70, Ok(70)),
            (Scenario::Offset(7), 10, Ok(10)),
            (Scenario::Offset(700), 100, Ok(100)),
            (Scenario::Shift(-20), 30, Err("there is no committed offset to shift")),
            (Scenario::Time(1), 60, Ok(100)),
        ] {
            assert_eq!(target(&scenario, KNOWN), Ok(offset), "{scenario:?}");
            assert_eq!(target(&scenario, nothing), without, "{scenario:?}");
        }
        for (shift, offset) in [(i64::MIN, 10), (-41, 10), (51, 100), (i64::MAX, 100)] {
            assert_eq!(target(&Scenario::Shift(shift), KNOWN), Ok(offset));
        }
    }

    #[test]
    fn what_is_not_as_asked_for_is_told() {
        let because = |scenario: Scenario, known| {
            scenario.target("g", &place(), known).unwrap().because.is_some()
        };
        assert!(because(Scenario::Offset(7), KNOWN) && because(Scenario::Shift(51), KNOWN));
        let nothing = Known { committed: None, at_time: -1, ..KNOWN };
        assert!(because(Scenario::Current, nothing) && because(Scenario::Time(1), nothing));
        assert!(!because(Scenario::Offset(70), KNOWN) && !because(Scenario::Latest, KNOWN));
    }

    fn read(text: &str, is_one_group: bool) -> Result<Plans, Failure> {
        from_csv(Path::new("plan.csv"), text, is_one_group)
    }

    #[test]
    fn what_is_exported_is_what_is_read() {
        let odd = ("a, \"b\"".to_owned(), 0);
        let place = place();
        let rows = || [("g", &place, 5), ("g", &odd, 6)].into_iter();
        let plan: BTreeMap<Place, i64> = rows().map(|(_, place, at)| (place.clone(), at)).collect();
        let one = to_csv(rows(), true);
        assert!(one.starts_with("t,3,5\n"), "{one}");
        assert_eq!(read(&one, true), Ok([(None, plan.clone())].into()));
        let several = to_csv(rows(), false);
        assert!(several.starts_with("g,t,3,5\n"), "{several}");
        let plans: Plans = [(Some("g".to_owned()), plan)].into();
        assert_eq!(read(&several, false), Ok(plans.clone()));
        assert_eq!(read(&several, true), Ok(plans.clone()));
        assert_eq!(of_group(&plans, "g").map(BTreeMap::len), Some(2));
        assert_eq!(of_group(&plans, "other"), None);
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        for wrong in ["t,0", "t,x,1", "t,-1,1", "t,0,", "\"t,0,1", "a,b,c,d,e"] {
            let Err(Failure::Usage(words)) = read(&format!("t,0,1\n{wrong}"), true) else {
                panic!("{wrong}")
            };
            assert!(words.starts_with("plan.csv:2: "), "{words}");
        }
        assert!(matches!(read("t,0,1", false), Err(Failure::Usage(_))));
        assert_eq!(read("\n\n", true), Ok(Plans::new()));
    }

    #[test]
    fn flags_name_one_scenario() {
        let none = ResetTo {
            to_earliest: false,
            to_latest: false,
            to_current: false,
            to_offset: None,
            shift_by: None,
            to_datetime: None,
            by_duration: None,
            from_file: None,
        };
        let read = |to: ResetTo| Scenario::read(&to, 10_000, None);
        assert_eq!(read(ResetTo { to_earliest: true, ..none.clone() }), Ok(Scenario::Earliest));
        assert_eq!(read(ResetTo { to_latest: true, ..none.clone() }), Ok(Scenario::Latest));
        assert_eq!(read(ResetTo { to_current: true, ..none.clone() }), Ok(Scenario::Current));
        assert_eq!(read(ResetTo { shift_by: Some(-3), ..none.clone() }), Ok(Scenario::Shift(-3)));
        assert_eq!(read(ResetTo { to_offset: Some(3), ..none.clone() }), Ok(Scenario::Offset(3)));
        let by = |text: &str| ResetTo { by_duration: Some(text.to_owned()), ..none.clone() };
        assert_eq!(read(by("PT2S")), Ok(Scenario::Time(8_000)));
        let at = |text: &str| ResetTo { to_datetime: Some(text.to_owned()), ..none.clone() };
        assert_eq!(read(at("1970-01-01T00:00:01.000")), Ok(Scenario::Time(1_000)));
        for wrong in [by("2s"), by("P9D"), at("yesterday")] {
            assert!(matches!(read(wrong.clone()), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
