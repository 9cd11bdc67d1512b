//! The report as text. Nothing from the bundle reaches the terminal unescaped.

use std::fmt::Write as _;

use super::{LedgerLine, Report, Status, Verdict};

/// Ledger lines shown at each end unless everything is asked for.
const LEDGER_ENDS: usize = 3;

/// The report for people. `colour` adds ANSI colours, `full` shows every entry of the ledger and full digests.
///
/// The last five lines are always the block that scripts look for: `=== Audit bundle ===`, `intact`, `claim`,
/// `anchorId`, `guarantee`.
#[must_use]
pub fn render_text(report: &Report, colour: bool, full: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report, colour, full);
    text
}

fn write_report(out: &mut String, report: &Report, colour: bool, full: bool) -> std::fmt::Result {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let run = report.run_id.as_deref().map_or_else(|| "(unknown run)".to_owned(), printable);
    let headline = match (report.verdict, report.claim) {
        (Verdict::Intact, Some(claim)) => paint("1;32", &format!("✓ {}", claim.as_str().to_uppercase())),
        (Verdict::Intact, None) => paint("1;32", "✓ INTACT"),
        (Verdict::Failed, _) => paint("1;31", "✗ FAILED"),
        (Verdict::Unverifiable, _) => paint("1;33", "? UNVERIFIABLE HERE"),
        (Verdict::Incomplete, _) => paint("1;33", "… INCOMPLETE"),
    };
    writeln!(out, "{headline}  run {run}, {} entries", report.entries)?;
    if let Some(failure) = &report.failure {
        let (place, detail) = (printable(&failure.place), printable(&failure.detail));
        writeln!(out, "  {} {}: {place}: {detail}", paint("31", "failure in"), failure.check)?;
    }
    for reason in &report.unverifiable {
        writeln!(out, "  unverifiable: {}", printable(reason))?;
    }
    for reason in &report.incomplete {
        writeln!(out, "  incomplete: {}", printable(reason))?;
    }
    writeln!(out)?;
    for (name, check) in report.checks.rows() {
        let mark = match check.ok {
            Status::Pass => paint("32", "✓"),
            Status::Fail => paint("31", "✗"),
            Status::NotApplicable => paint("2", "─"),
        };
        let prefix = if check.ok == Status::NotApplicable { "n/a: " } else { "" };
        writeln!(out, "  {mark} {name:<10} {prefix}{}", printable(&check.detail))?;
    }
    if let Some(key) = &report.key {
        let pinned = match key.pinned {
            true => "pinned by the verifier",
            false => {
                "NOT pinned: taken from the bundle itself; compare it with the deployment's published key"
            }
        };
        writeln!(out, "\n  key  {}\n       {pinned}", printable(&key.vkey))?;
    }
    write_ledger(out, &report.ledger, full)?;
    let claim = report.claim.map_or("none", super::Claim::as_str);
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "none".to_owned(), printable);
    writeln!(out, "\n=== Audit bundle ===")?;
    writeln!(out, "intact: {}", report.intact)?;
    writeln!(out, "claim: {claim}")?;
    writeln!(out, "anchorId: {}", or_none(&report.anchor_id))?;
    writeln!(out, "guarantee: {}", or_none(&report.guarantee))
}

fn write_ledger(out: &mut String, ledger: &[LedgerLine], full: bool) -> std::fmt::Result {
    if ledger.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let gap = (!full && ledger.len() > 2 * LEDGER_ENDS).then(|| LEDGER_ENDS..ledger.len() - LEDGER_ENDS);
    for (seq, line) in ledger.iter().enumerate() {
        if let Some(gap) = &gap
            && gap.contains(&seq)
        {
            if seq == gap.start {
                writeln!(out, "  {:>6}  … {} more", "", gap.len())?;
            }
            continue;
        }
        let hex = line.leaf.hex();
        let hash = if full { hex.as_str() } else { &hex[..6] };
        let item = line.item.as_ref().map_or("", |item| item.as_str());
        writeln!(out, "  {seq:>6}  {hash}  {}  {:<15} {item}", utc(line.at), printable(&line.kind))?;
    }
    Ok(())
}

/// Replaces everything that could steer a terminal or hide text.
fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        let hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || hidden {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// `2026-05-31T00:00:01.000Z` of milliseconds since the epoch (proleptic Gregorian calendar).
fn utc(milliseconds: i64) -> String {
    let (days, time) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    // Days since 0000-03-01, so that the leap day is the last day of a year; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600_000, time / 60_000 % 60, time / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_knows_leap_days_and_times_before_the_epoch() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_780_185_600_123), "2026-05-31T00:00:00.123Z");
    }

    #[test]
    fn terminal_escapes_are_made_visible() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
    }
}
