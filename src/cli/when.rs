//! Points and lengths of time as Kafka's tools take them, and points as they are printed.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// What [`datetime`] takes.
pub(super) const DATETIME: &str = "must be YYYY-MM-DDThh:mm:ss.sss, in UTC unless it ends with a \
                                   zone such as +02:00, or @ and milliseconds since 1970";
/// What [`duration`] takes.
pub(super) const DURATION: &str = "must be a duration of ISO 8601, such as P1D, PT2H30M or PT0.5S";

/// A point of time in milliseconds since 1970: `2026-11-22T10:00:00.000`, also without its
/// fraction or its seconds, with `Z`, `+02`, `+0200` or `+02:00`, in UTC without one
/// (`org.apache.kafka.common.utils.Utils.getDateTime`); or `@1763805600000`.
pub(super) fn datetime(text: &str) -> Option<i64> {
    if let Some(ms) = text.strip_prefix('@') {
        return ms.parse().ok().filter(|ms| *ms >= 0);
    }
    let (date, rest) = text.split_once('T')?;
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let (year, month, day) = (number(year)?, two(month)?, two(day)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    days.checked_mul(DAY_MS)?.checked_add(clock_ms(clock)?)?.checked_sub(zone_ms(zone)?)
}

fn clock_ms(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':');
    let (hour, minute) = (two(parts.next()?)?, two(parts.next()?)?);
    let second = parts.next().map_or(Some(0), two)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 || fraction.len() > 3 {
        return None;
    }
    let scale = [0, 100, 10, 1].get(fraction.len()).copied().filter(|scale| *scale > 0)?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + number(fraction)? * scale)
}

fn zone_ms(text: &str) -> Option<i64> {
    let sign = match text.chars().next() {
        None => return Some(0),
        Some('Z') => return (text.len() == 1).then_some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let digits = text.get(1..)?.replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (two(&digits)?, 0),
        4 => (two(digits.get(..2)?)?, two(digits.get(2..)?)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn two(text: &str) -> Option<i64> {
    (text.len() == 2).then(|| number(text))?
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let before = year - 1;
    let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    // 719,162 days lie before 1970.
    let of_years = 365 * before + leaps - 719_162;
    of_years + (1..month).map(|month| days_in(year, month)).sum::<i64>()
}

/// A length of time in milliseconds: `PnDTnHnMn.nS` with signs where Java's `Duration.parse` takes
/// them.
pub(super) fn duration(text: &str) -> Option<i64> {
    let upper = text.to_ascii_uppercase();
    let (sign, rest) = match upper.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, upper.strip_prefix('+').unwrap_or(&upper)),
    };
    let rest = rest.strip_prefix('P')?;
    let (days, clock) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((days, clock)) => (days, clock),
        None => (rest, ""),
    };
    let mut total = 0_i64;
    let mut is_any = false;
    for (mut part, units) in
        [(days, &[('D', DAY_MS)][..]), (clock, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)])]
    {
        let mut units = units.iter();
        while !part.is_empty() {
            let end = part.find(|char: char| char.is_ascii_alphabetic())?;
            let (amount, tail) = part.split_at(end);
            let unit = tail.chars().next()?;
            // Each unit once, the larger before the smaller.
            let (_, ms) = units.find(|(name, _)| *name == unit)?;
            let of_unit =
                if unit == 'S' { seconds(amount)? } else { whole(amount)?.checked_mul(*ms)? };
            total = total.checked_add(of_unit)?;
            is_any = true;
            part = tail.get(1..)?;
        }
    }
    is_any.then(|| total.checked_mul(sign))?
}

fn whole(text: &str) -> Option<i64> {
    let (sign, digits) = signed(text);
    (!digits.is_empty()).then(|| number(digits))?.map(|number| sign * number)
}

fn signed(text: &str) -> (i64, &str) {
    match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Seconds with up to nine digits of a fraction, of which three count.
fn seconds(text: &str) -> Option<i64> {
    let (sign, digits) = signed(text);
    let (seconds, fraction) = digits.split_once(['.', ',']).unwrap_or((digits, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole = whole(seconds).filter(|seconds| *seconds >= 0)?.checked_mul(1_000)?;
    Some(sign * whole.checked_add(number(&ms)?)?)
}

/// A point of time as text: `2026-11-22T10:00:00.000Z`, or the number where it is before 1970.
pub(super) fn text(ms: i64) -> String {
    if ms < 0 {
        return ms.to_string();
    }
    let (mut days, of_day) = (ms / DAY_MS, ms % DAY_MS);
    // The year is found from its least possible one.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    days -= days_before(year, 1);
    let mut month = 1;
    while days >= days_in(year, month) {
        days -= days_in(year, month);
        month += 1;
    }
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, fraction) = (of_day / 1_000 % 60, of_day % 1_000);
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_time_is_in_utc_unless_it_says_otherwise() {
        let noon = 1_795_348_800_000;
        for same in [
            "2026-11-22T12:00:00.000",
            "2026-11-22T12:00:00",
            "2026-11-22T12:00",
            "2026-11-22T12:00:00.000Z",
            "2026-11-22T14:00:00.0+02:00",
            "2026-11-22T14:00:00.000+0200",
            "2026-11-22T07:00:00.00-05",
            "@1795348800000",
        ] {
            assert_eq!(datetime(same), Some(noon), "{same}");
        }
        assert_eq!(datetime("1970-01-01T00:00:00.001"), Some(1));
        assert_eq!(datetime("2024-02-29T00:00:00.5"), Some(1_709_164_800_500));
        assert_eq!(datetime("2000-03-01T00:00"), Some(951_868_800_000));
    }

    #[test]
    fn what_is_no_point_of_time_is_refused() {
        for wrong in [
            "",
            "2026-11-22",
            "2026-11-22T",
            "2026-13-01T00:00",
            "2025-02-29T00:00",
            "2026-11-22T24:00",
            "2026-11-22T12:60",
            "26-11-22T12:00",
            "2026-11-22T12:00:00.0000",
            "2026-11-22T12:00:00.",
            "2026-11-22T12:00Zulu",
            "2026-11-22T12:00+2",
            "@-1",
            "@",
            "2026-1-2T12:00",
            "2026-11-22T12:00+99:00",
            "é",
            "2026-11-22T1é:00",
        ] {
            assert_eq!(datetime(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_length_of_time_is_javas() {
        for (text, ms) in [
            ("P1D", DAY_MS),
            ("PT2H30M", 9_000_000),
            ("pt0.5s", 500),
            ("P1DT1H1M1.001S", DAY_MS + 3_661_001),
            ("-PT1S", -1_000),
            ("PT-1M", -60_000),
            ("PT-0.5S", -500),
            ("PT0S", 0),
        ] {
            assert_eq!(duration(text), Some(ms), "{text}");
        }
        for wrong in ["", "P", "PT", "1D", "P1H", "PT1D", "PT1M1H", "PT1", "PTS", "P1DT", "PT1,5M"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_point_of_time_is_printed_as_it_is_read() {
        for ms in [0, 1, 951_782_400_000, 951_868_799_999, 1_795_348_800_000, 4_102_444_799_999] {
            assert_eq!(datetime(&text(ms)), Some(ms), "{}", text(ms));
        }
        assert_eq!(text(1_795_348_800_000), "2026-11-22T12:00:00.000Z");
        assert_eq!(text(-1), "-1");
        assert!(text(i64::MAX).len() > 20);
    }
}
