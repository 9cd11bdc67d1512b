//! Errors of calls as errors of the port.

use pangolin_aws::CallError;
use pangolin_ports::worker_backend::BackendError;

/// A call that failed while doing `what`. What may pass is worth another try, a refusal is not.
pub(crate) fn failed(what: impl Into<String>, error: CallError) -> BackendError {
    let what = what.into();
    let throttled = error.code().is_some_and(|code| code.contains("Throttl") || code == "SlowDown");
    if error.may_have_taken_effect() || throttled || error.status().is_none_or(|status| status == 429) {
        BackendError::Unavailable(format!("{what}: {error}"))
    } else {
        BackendError::Other { context: what, source: Box::new(error) }
    }
}

/// A file operation that failed.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BackendError {
    let context = what.into();
    move |source| BackendError::Other { context, source: Box::new(source) }
}
