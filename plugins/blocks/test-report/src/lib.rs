//! Turns test reports into a verdict.
