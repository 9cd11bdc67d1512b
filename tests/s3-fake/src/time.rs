//! Times as S3 writes them.

use jiff::{Timestamp, tz::TimeZone};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

/// `Sat, 21 Nov 2026 14:00:00 GMT`.
pub(crate) fn http(ms: i64) -> String {
    at(ms).to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// `2026-11-21T14:00:00.000Z`: listings and lock dates; modification times are whole seconds.
pub(crate) fn iso(ms: i64) -> String {
    at(ms).to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Reads a time as in lock headers.
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Reads `20261121T140000Z`.
pub(crate) fn parse_basic(text: &str) -> Option<i64> {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    parsed.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_millisecond())
}
