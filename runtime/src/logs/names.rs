//! When a file was put aside, and the name that says so.

use std::fmt;
use std::str::FromStr;

/// When a file was put aside: to the second, and a number for those of one second. Orders as they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// `20260102-030405`, in UTC.
    second: String,
    number: u32,
}

impl Stamp {
    /// The stamp of a file that is put aside at `seconds` since 1970. It is later than `latest`, whatever the clock
    /// says: the order of the files is that of their lines.
    pub fn after(latest: Option<&Stamp>, seconds: i64) -> Stamp {
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let second =
            format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60);
        match latest {
            Some(latest) if latest.second >= second => {
                Stamp { second: latest.second.clone(), number: latest.number.saturating_add(1) }
            }
            _ => Stamp { second, number: 0 },
        }
    }

    /// The stamp in a name that begins as the live file's, and whether the file is compressed.
    pub fn of(live: &str, name: &str) -> Option<(Stamp, bool)> {
        let rest = name.strip_prefix(live)?.strip_prefix('.')?;
        match rest.strip_suffix(".gz") {
            Some(stamp) => Some((stamp.parse().ok()?, true)),
            None => Some((rest.parse().ok()?, false)),
        }
    }

    /// The name of the file that was put aside.
    pub fn name(&self, live: &str) -> String {
        format!("{live}.{self}")
    }

    /// Its name once it is compressed.
    pub fn compressed_name(&self, live: &str) -> String {
        format!("{live}.{self}.gz")
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.second)?;
        if self.number > 0 {
            write!(f, "-{:03}", self.number)?;
        }
        Ok(())
    }
}

impl FromStr for Stamp {
    type Err = ();

    /// Only what was written by [`Stamp`]'s own hand or kubelet's: a file that somebody else put beside is not ours.
    fn from_str(text: &str) -> Result<Stamp, ()> {
        let mut parts = text.splitn(3, '-');
        let digits = |part: Option<&str>, length| {
            part.filter(|it| it.len() == length && it.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned)
        };
        let (day, time) = (digits(parts.next(), 8).ok_or(())?, digits(parts.next(), 6).ok_or(())?);
        let number = match parts.next() {
            None => 0,
            Some(number) if number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map_err(|_| ())?
            }
            Some(_) => return Err(()),
        };
        Ok(Stamp { second: format!("{day}-{time}"), number })
    }
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar, counted in eras of 400 years that begin in
/// March, so that the leap day is the last of its year.
pub fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(DAYS_OF_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_named_by_the_second_it_was_put_aside() {
        let stamp = Stamp::after(None, 1_767_323_045);
        assert_eq!(stamp.name("0.log"), "0.log.20260102-030405");
        assert_eq!(stamp.compressed_name("0.log"), "0.log.20260102-030405.gz");
    }

    #[test]
    fn stamps_grow_within_a_second_and_when_the_clock_goes_back() {
        let first = Stamp::after(None, 1_767_323_045);
        let second = Stamp::after(Some(&first), 1_767_323_045);
        let earlier = Stamp::after(Some(&second), 1_000_000_000);
        let later = Stamp::after(Some(&earlier), 1_767_323_046);
        assert_eq!(second.to_string(), "20260102-030405-001");
        assert_eq!(earlier.to_string(), "20260102-030405-002");
        assert_eq!(later.to_string(), "20260102-030406");
        assert!(first < second && second < earlier && earlier < later);
        let thousandth: Stamp = "20260102-030405-1000".parse().unwrap();
        assert!("20260102-030405-999".parse::<Stamp>().unwrap() < thousandth);
    }

    #[test]
    fn only_files_named_so_are_rotated_ones() {
        for (name, compressed) in
            [("0.log.20260102-030405", false), ("0.log.20260102-030405.gz", true), ("0.log.20260102-030405-012", false)]
        {
            let (stamp, packed) = Stamp::of("0.log", name).unwrap();
            assert_eq!(packed, compressed, "{name}");
            assert!(name.starts_with(&stamp.name("0.log")), "{name}");
        }
        for name in [
            "0.log",
            "0.log.1",
            "0.log.bak",
            "10.log.20260102-030405",
            "0.log.20260102-030405.tmp",
            "0.log.20260102-03040x",
            "0.log.20260102-030405-1",
            "0.log.20260102-030405.gz.gz",
        ] {
            assert_eq!(Stamp::of("0.log", name), None, "{name}");
        }
    }
}
