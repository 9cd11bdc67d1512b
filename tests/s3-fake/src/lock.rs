//! The rules of Object Lock.

use crate::{
    reply::{Refusal, refuse},
    time,
};

/// Retention of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    /// `COMPLIANCE` or `GOVERNANCE`.
    pub(crate) mode: String,
    pub(crate) until_ms: i64,
}

impl Retention {
    /// From the two values of a request.
    pub(crate) fn new(mode: Option<&str>, until: Option<&str>, now_ms: i64) -> Result<Option<Self>, Refusal> {
        let (mode, until) = match (mode, until) {
            (None, None) => return Ok(None),
            (Some(mode), Some(until)) => (mode, until),
            _ => {
                let both =
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
                return refuse(400, "InvalidArgument", both);
            }
        };
        if !matches!(mode, "COMPLIANCE" | "GOVERNANCE") {
            return refuse(400, "InvalidArgument", "Unknown wormMode directive.");
        }
        let Some(until_ms) = time::parse_iso(until) else {
            return refuse(
                400,
                "InvalidArgument",
                "The retain until date must be provided in ISO 8601 format",
            );
        };
        if until_ms <= now_ms {
            return refuse(400, "InvalidArgument", "The retain until date must be in the future!");
        }
        Ok(Some(Self { mode: mode.to_owned(), until_ms }))
    }

    fn holds(&self, now_ms: i64) -> bool {
        self.until_ms > now_ms
    }
}

/// Whether a version may be deleted.
pub(crate) fn may_delete(held: Option<&Retention>, bypass: bool, now_ms: i64) -> Result<(), Refusal> {
    match held {
        Some(held) if held.holds(now_ms) && !(held.mode == "GOVERNANCE" && bypass) => {
            refuse(403, "AccessDenied", "Access Denied because object protected by object lock.")
        }
        _ => Ok(()),
    }
}

/// Whether a retention may be replaced by another.
pub(crate) fn may_replace(
    held: Option<&Retention>,
    new: Option<&Retention>,
    bypass: bool,
    now_ms: i64,
) -> Result<(), Refusal> {
    let Some(held) = held.filter(|held| held.holds(now_ms)) else { return Ok(()) };
    let longer = new.is_some_and(|new| new.until_ms >= held.until_ms);
    let allowed = match held.mode.as_str() {
        "COMPLIANCE" => longer && new.is_some_and(|new| new.mode == "COMPLIANCE"),
        _ => bypass || longer,
    };
    if allowed {
        return Ok(());
    }
    refuse(403, "AccessDenied", "Access Denied because object protected by object lock.")
}
