//! Ids of what a vote adds.

/// Id of the reviewer at `position` of `reviewers`, from 0.
pub(crate) fn reviewer(subject: &str, position: usize) -> String {
    format!("{subject}::rev-{position}")
}

/// Id of the commit.
pub(crate) fn commit(subject: &str) -> String {
    format!("{subject}::commit")
}

/// Whom a reviewer looks at.
pub(crate) fn reviewed(id: &str) -> Option<&str> {
    let (subject, position) = id.rsplit_once("::rev-")?;
    position.parse::<usize>().is_ok().then_some(subject)
}
