//! Pages that are made from code and kept beside it for people to read. A test compares them.

use crate::template::rights_page;

/// `infra/rights.md`.
#[must_use]
pub fn rights() -> String {
    format!(
        "# Who may do what\n\nEvery statement of every role in [template.json](template.json), with its reason. Made by\n\
         `cargo run -p pangolin-deploy --example export`; a test compares it with the code.\n\n{}",
        rights_page()
    )
}

/// `docs/aws-cost.md`.
#[must_use]
pub fn cost() -> String {
    crate::cost::page().unwrap_or_else(|error| format!("{error}\n"))
}
