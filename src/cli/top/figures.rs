//! Figures as people read them: short, with a unit.

/// What is not known.
pub(super) const UNKNOWN: &str = "-";

/// Writes a figure if there is one.
pub(super) fn known<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), write)
}

/// `0`, `0.5`, `73`, `12,345`, `1.2M`.
pub(super) fn rate(value: f64) -> String {
    match value {
        value if !value.is_finite() => UNKNOWN.to_owned(),
        value if value < 0.05 => "0".to_owned(),
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 999_999.5 => count(value.round() as i64),
        value if value < 999_950_000.0 => format!("{:.1}M", value / 1e6),
        value => format!("{:.1}G", value / 1e9),
    }
}

/// Whole, with commas between thousands.
pub(super) fn count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = if value < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `512 B`, `1.5 KiB`, `64.0 MiB`.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let mut left = value.max(0.0);
    let mut units = UNITS.iter().peekable();
    while let Some(unit) = units.next() {
        // What would be rounded to 1024 is one of the next unit.
        if left < 1_023.95 || units.peek().is_none() {
            let digits = usize::from(*unit != "B");
            return format!("{left:.digits$} {unit}");
        }
        left /= 1_024.0;
    }
    UNKNOWN.to_owned()
}

/// The same in a second.
pub(super) fn bytes_per_second(value: f64) -> String {
    format!("{}/s", bytes(value))
}

/// A length of time: `80µs`, `1.5ms`, `12s`, `3m05s`, `2h10m`, `4d06h`.
pub(super) fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return UNKNOWN.to_owned();
    }
    let whole = value.round() as u64;
    match value {
        0.0 => "0s".to_owned(),
        value if value < 0.000_999_5 => format!("{:.0}µs", value * 1e6),
        value if value < 0.999_5 => format!("{:.1}ms", value * 1e3),
        value if value < 9.95 => format!("{value:.1}s"),
        _ if whole < 60 => format!("{whole}s"),
        _ if whole < 3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ if whole < 86_400 => format!("{}h{:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// A share of 1: `97.3 %`.
pub(super) fn share(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.5"),
            (9.94, "9.9"),
            (9.96, "10"),
            (12_345.4, "12,345"),
            (999_999.6, "1.0M"),
            (1_250_000.0, "1.2M"),
            (3e9, "3.0G"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(rate(value), text, "{value}");
        }
    }

    #[test]
    fn counts_have_commas() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")]
        {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn bytes_have_a_unit() {
        let cases = [
            (0.0, "0 B"),
            (1_023.0, "1023 B"),
            (1_024.0, "1.0 KiB"),
            (1_536.0, "1.5 KiB"),
            (1_048_575.0, "1.0 MiB"),
            (f64::from(1 << 26), "64.0 MiB"),
            (2e18, "1776.4 PiB"),
            (f64::INFINITY, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bytes_per_second(2_048.0), "2.0 KiB/s");
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let cases = [
            (0.0, "0s"),
            (0.000_08, "80µs"),
            (0.001_5, "1.5ms"),
            (0.25, "250.0ms"),
            (1.0, "1.0s"),
            (12.3, "12s"),
            (59.7, "1m00s"),
            (185.0, "3m05s"),
            (7_800.0, "2h10m"),
            (367_200.0, "4d06h"),
            (-1.0, "-"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(seconds(value), text, "{value}");
        }
        assert_eq!(share(0.973), "97.3 %");
        assert_eq!(known(None, rate), "-");
        assert_eq!(known(Some(7.0), rate), "7.0");
    }
}
