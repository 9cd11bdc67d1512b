//! The words of the closed vocabularies, as serde writes them (a test holds the two against each other).

use pangolin_core::{
    entry::{FailureClass, FailureReason, FinalStatus, Isolation, RunOutcome, UsageQuality},
    pattern::FailurePolicy,
};

pub(super) fn status_text(status: FinalStatus) -> &'static str {
    match status {
        FinalStatus::Done => "done",
        FinalStatus::Failed => "failed",
        FinalStatus::Skipped => "skipped",
        FinalStatus::Cancelled => "cancelled",
        FinalStatus::Denied => "denied",
        FinalStatus::NeedsInput => "needs-input",
    }
}

pub(super) fn outcome_text(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Cancelled => "cancelled",
    }
}

pub(super) fn reason_text(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::WorkerFailed => "worker-failed",
        FailureReason::ProviderFailed => "provider-failed",
        FailureReason::Timeout => "timeout",
        FailureReason::Cancelled => "cancelled",
        FailureReason::FetchFailed => "fetch-failed",
        FailureReason::IntegrityFailed => "integrity-failed",
    }
}

pub(super) fn class_text(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Infrastructure => "infrastructure",
        FailureClass::Work => "work",
        FailureClass::Timeout => "timeout",
        FailureClass::Refusal => "refusal",
        FailureClass::Invalid => "invalid",
        FailureClass::Cancelled => "cancelled",
    }
}

pub(super) fn isolation_text(level: Isolation) -> &'static str {
    match level {
        Isolation::None => "none",
        Isolation::Sandbox => "sandbox",
        Isolation::Container => "container",
    }
}

pub(super) fn quality_text(quality: UsageQuality) -> &'static str {
    match quality {
        UsageQuality::Exact => "exact",
        UsageQuality::Partial => "partial",
        UsageQuality::Estimated => "estimated",
        UsageQuality::Missing => "missing",
    }
}

pub(super) fn policy_text(policy: FailurePolicy) -> &'static str {
    match policy {
        FailurePolicy::Closed => "closed",
        FailurePolicy::Open => "open",
        FailurePolicy::Builtin => "builtin",
    }
}
