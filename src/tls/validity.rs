//! From when until when a certificate is valid.
//!
//! The verifier of the library knows, but only says so to a client. The walk down to the two
//! dates is short, so it is done here, and anything unexpected on the way is no answer.

use std::fmt;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

// Tags of DER (X.690 §8.1.2), as they stand on the way to the dates (RFC 5280 §4.1).
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;

/// A time with a calendar date, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date(pub(super) i64);

/// The two dates of a certificate; it is valid at both and between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Date,
    pub(super) not_after: Date,
}

impl Validity {
    /// Reads the dates of a certificate in DER.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, to_be_signed) = element(element(certificate, SEQUENCE)?.1, SEQUENCE)?;
        // An element gives what follows it, then what it holds.
        let after_version = match element(to_be_signed, EXPLICIT_VERSION) {
            Some((rest, _)) => rest,
            None => to_be_signed,
        };
        let (after_serial, _) = element(after_version, INTEGER)?;
        let (after_algorithm, _) = element(after_serial, SEQUENCE)?;
        let (after_issuer, _) = element(after_algorithm, SEQUENCE)?;
        let (_, validity) = element(after_issuer, SEQUENCE)?;
        let (after_not_before, not_before) = date(validity)?;
        let (_, not_after) = date(after_not_before)?;
        Some(Self { not_before, not_after })
    }
}

impl Date {
    fn from_civil(year: i64, month: i64, day: i64, second_of_day: i64) -> Self {
        // Years begin in March here, so that the leap day is the last of its year.
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Self(days * SECONDS_PER_DAY + second_of_day)
    }

    fn civil(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(SECONDS_PER_DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The first element of `bytes`, if it has this tag: what follows it, and what it holds.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (len, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (len_bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if len_bytes.len() > 4 {
            return None;
        }
        (len_bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((rest, content))
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from 2050 (RFC 5280 §4.1.2.5).
fn date(bytes: &[u8]) -> Option<(&[u8], Date)> {
    let (rest, digits, year_digits) = match element(bytes, UTC_TIME) {
        Some((rest, text)) => (rest, text.strip_suffix(b"Z")?, 2),
        None => {
            let (rest, text) = element(bytes, GENERALIZED_TIME)?;
            (rest, text.strip_suffix(b"Z")?, 4)
        }
    };
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |range: &[u8]| range.iter().fold(0, |n, &digit| n * 10 + i64::from(digit - b'0'));
    let (year, time) = digits.split_at(year_digits);
    let year = match (year_digits, number(year)) {
        (2, short) if short >= 50 => 1900 + short,
        (2, short) => 2000 + short,
        (_, year) => year,
    };
    let field = |index: usize| number(&time[2 * index..2 * index + 2]);
    let second_of_day = (field(2) * 60 + field(3)) * 60 + field(4);
    if !(1..=12).contains(&field(0)) {
        return None;
    }
    Some((rest, Date::from_civil(year, field(0), field(1), second_of_day)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (year, month, day, seconds) in [
            (1970, 1, 1, 0),
            (2000, 2, 29, 951_782_400),
            (2024, 12, 31, 1_735_603_200),
            (2100, 3, 1, 4_107_542_400),
            (1969, 12, 31, -86_400),
        ] {
            let date = Date::from_civil(year, month, day, 0);
            assert_eq!(date.0, seconds);
            assert_eq!(date.to_string(), format!("{year:04}-{month:02}-{day:02}"));
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_found_again() {
        for day in 0..146_097 {
            let (year, month, day_of_month) = Date(day * SECONDS_PER_DAY).civil();
            assert_eq!(Date::from_civil(year, month, day_of_month, 0).0, day * SECONDS_PER_DAY);
        }
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        let short = b"\x17\x0d491231235959Z";
        let long = b"\x18\x0f20500101000000Z";
        let (_, before) = date(short).unwrap();
        let (_, after) = date(long).unwrap();
        assert_eq!(after.0 - before.0, 1);
        assert_eq!(date(b"\x17\x0d991231235959Z").unwrap().1.to_string(), "1999-12-31");
    }

    #[test]
    fn a_certificate_cut_anywhere_has_no_dates() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 7, 1);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        let validity = Validity::of(der).unwrap();
        assert_eq!(validity.not_before.to_string(), "2020-02-29");
        assert_eq!(validity.not_after.to_string(), "2051-07-01");
        for len in 0..der.len() {
            assert_eq!(Validity::of(&der[..len]), None);
        }
    }
}
