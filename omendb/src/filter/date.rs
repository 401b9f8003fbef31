//! ISO-8601 dates and date-times as instants.

/// A moment: seconds since 1970-01-01T00:00:00Z (years 0 to 9999, proleptic Gregorian) and nanoseconds within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    seconds: i64,
    nanos: u32,
}

impl Instant {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub(crate) fn nanoseconds(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

/// Reads `YYYY-MM-DD`, alone or followed by `T` (or a space) and `HH:MM[:SS[.fraction]]`, and then by nothing (UTC),
/// `Z`, `+HH:MM`, `+HHMM` or `+HH`. A fraction has up to 9 digits. Anything else is not a date.
pub(crate) fn parse(text: &str) -> Option<Instant> {
    let b = text.as_bytes();
    if b.len() < 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&b[..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_since_epoch(year, month, day) * 86_400;
    if b.len() == 10 {
        return Some(Instant { seconds: midnight, nanos: 0 });
    }
    if !matches!(b[10], b'T' | b't' | b' ') || b.len() < 16 || b[13] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&b[11..13])?, digits(&b[14..16])?);
    let mut rest = &b[16..];
    let mut second = 0;
    let mut nanos = 0;
    if let [b':', a, b, tail @ ..] = rest {
        second = digits(&[*a, *b])?;
        rest = tail;
        if let [b'.', tail @ ..] = rest {
            let count = tail.iter().take_while(|c| c.is_ascii_digit()).count();
            if !(1..=9).contains(&count) {
                return None;
            }
            nanos = digits(&tail[..count])? as u32 * 10u32.pow(9 - count as u32);
            rest = &tail[count..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = midnight + hour * 3_600 + minute * 60 + second - offset_seconds(rest)?;
    Some(Instant { seconds, nanos })
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *text {
        [] | [b'Z'] | [b'z'] => return Some(0),
        [sign, a, b] => (sign, digits(&[a, b])?, 0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, digits(&[a, b])?, digits(&[c, d])?),
        _ => return None,
    };
    if hour > 23 || minute > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hour * 3_600 + minute * 60),
        b'-' => Some(-(hour * 3_600 + minute * 60)),
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before the first of each month in a common year.
const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// Days from year 0 to 1970.
const EPOCH: i64 = 719_528;

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before 1 January of `year`; year 0 itself is one.
    let leaps = if year == 0 { 0 } else { (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1 };
    let this_leap = i64::from(month > 2 && is_leap(year));
    year * 365 + leaps + DAYS_BEFORE[(month - 1) as usize] + this_leap + day - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        parse(text).unwrap_or_else(|| panic!("{text} is a date")).seconds
    }

    #[test]
    fn known_instants() {
        assert_eq!(seconds("1970-01-01"), 0);
        assert_eq!(seconds("2000-03-01"), 951_868_800);
        assert_eq!(seconds("2001-09-09T01:46:40Z"), 1_000_000_000);
        assert_eq!(seconds("2001-09-09 03:46:40+02:00"), 1_000_000_000);
        assert_eq!(seconds("2001-09-08T20:16:40-0530"), 1_000_000_000);
        assert_eq!(seconds("2001-09-09T02:46+01"), 1_000_000_000 - 40);
        assert_eq!(seconds("0000-01-01"), -62_167_219_200);
        assert_eq!(seconds("9999-12-31T23:59:59"), 253_402_300_799);
        assert_eq!(parse("1970-01-01T00:00:00.25z"), Some(Instant { seconds: 0, nanos: 250_000_000 }));
        assert_eq!(parse("1970-01-01T00:00:00.000000001"), Some(Instant { seconds: 0, nanos: 1 }));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = seconds("0000-01-01");
        for year in 0..=9_999 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_since_epoch(year, month, day) * 86_400, expected, "{year}-{month}-{day}");
                    expected += 86_400;
                }
            }
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "2020",
            "2020-01",
            "2020-1-01",
            "2020-13-01",
            "2020-00-10",
            "2021-02-29",
            "1900-02-29",
            "2020-04-31",
            "2020-01-00",
            "2020-01-01T",
            "2020-01-01T10",
            "2020-01-01T10:",
            "2020-01-01T24:00",
            "2020-01-01T10:60",
            "2020-01-01T10:00:60",
            "2020-01-01T10:00:00.",
            "2020-01-01T10:00:00.1234567890",
            "2020-01-01T10:00:00+",
            "2020-01-01T10:00:00+24:00",
            "2020-01-01T10:00:00+1:00",
            "2020-01-01T10:00:00 Z",
            "2020-01-01x10:00",
            "2020-01-01 ",
            "20200101",
            "+020-01-01",
            "2020-01-01T10:00:00*02:00",
            "２020-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
