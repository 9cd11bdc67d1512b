//! Times, durations, money and counts as people read them.

/// RFC 3339 in UTC with seconds.
pub(crate) fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| format!("{at_ms} ms"), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Now, in milliseconds since the epoch. Only for display.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// `0.4s`, `12s`, `3m05s`, `2h07m`. A clock that stepped back shows as 0.
pub(crate) fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1_000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// US dollars from millionths: four digits below a dollar, two above.
pub(crate) fn cost(microusd: u64) -> String {
    if microusd < 1_000_000 {
        format!("${}.{:04}", microusd / 1_000_000, microusd % 1_000_000 / 100)
    } else {
        format!("${}.{:02}", microusd / 1_000_000, microusd % 1_000_000 / 10_000)
    }
}

/// `1 item`, `2 items`, `100,000 items`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `100,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes with a binary unit.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{}.{} KiB", number / 1_024, number % 1_024 * 10 / 1_024),
        _ => format!("{}.{} MiB", number / 1_048_576, number % 1_048_576 * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_numbers() {
        assert_eq!(time(1_780_185_600_000), "2026-05-31T00:00:00Z");
        let durations: Vec<_> = [-5, 40, 9_990, 59_999, 65_000, 7_620_000].map(duration).into();
        assert_eq!(durations, ["0.0s", "0.0s", "9.9s", "59s", "1m05s", "2h07m"]);
        assert_eq!([0, 12_345, 999_999, 1_234_567].map(cost), ["$0.0000", "$0.0123", "$0.9999", "$1.23"]);
        assert_eq!(count(1, "item"), "1 item");
        assert_eq!(count(100_000, "item"), "100,000 items");
        assert_eq!([17, 1_536, 5 << 20].map(bytes), ["17 B", "1.5 KiB", "5.0 MiB"]);
    }
}
