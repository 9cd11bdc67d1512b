//! What a change set would do, for people.

use std::fmt;

use aws_sdk_cloudformation::types::{ChangeAction, Replacement, ResourceChange};
use serde::Serialize;

use crate::template::STATEFUL;

/// What happens to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It goes, and may stay behind outside of the stack.
    Remove,
    /// A new one takes its place: what the old one held is not in the new one.
    Replace,
    /// It depends on values that are known later.
    MayReplace,
    /// It stays and changes.
    Modify,
    /// It is new.
    Add,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// Logical id in the template.
    pub id: String,
    /// Type, as `AWS::S3::Bucket`.
    pub kind: String,
    /// Name in the account; none for what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What of it changes and why, as CloudFormation says.
    pub reasons: Vec<String>,
}

impl Change {
    pub(crate) fn read(change: &ResourceChange) -> Self {
        let action = match (change.action(), change.replacement()) {
            (Some(ChangeAction::Add | ChangeAction::Import), _) => Action::Add,
            (Some(ChangeAction::Remove), _) => Action::Remove,
            (_, Some(Replacement::True)) => Action::Replace,
            (_, Some(Replacement::Conditional)) => Action::MayReplace,
            // `Dynamic` says that nothing is known yet.
            (Some(ChangeAction::Dynamic), _) => Action::MayReplace,
            _ => Action::Modify,
        };
        let mut reasons: Vec<_> = change
            .details()
            .iter()
            .map(|detail| {
                let target = detail.target();
                let what = target.and_then(|it| it.name()).map_or_else(
                    || target.and_then(|it| it.attribute()).map_or("settings", |it| it.as_str()).to_owned(),
                    str::to_owned,
                );
                match detail.causing_entity() {
                    Some(cause) => format!("{what} (because of {cause})"),
                    None => what,
                }
            })
            .collect();
        reasons.sort();
        reasons.dedup();
        Self {
            action,
            id: change.logical_resource_id().unwrap_or_default().to_owned(),
            kind: change.resource_type().unwrap_or_default().to_owned(),
            name: change.physical_resource_id().map(str::to_owned),
            reasons,
        }
    }

    /// Whether this would leave data behind.
    ///
    /// What holds data has a name of its own, and CloudFormation does not replace a named resource under the same name: it
    /// fails and rolls back. So "may replace" is a danger only when the name is among what changes.
    fn endangers_data(&self) -> bool {
        let renamed = || {
            self.reasons
                .iter()
                .any(|reason| reason.starts_with("BucketName") || reason.starts_with("TableName"))
        };
        STATEFUL.contains(&self.id.as_str())
            && match self.action {
                Action::Remove | Action::Replace => true,
                Action::MayReplace => renamed(),
                Action::Modify | Action::Add => false,
            }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, word) = match self.action {
            Action::Add => ("+", "add"),
            Action::Modify => ("~", "modify"),
            Action::MayReplace => ("!", "MAY REPLACE"),
            Action::Replace => ("!", "REPLACE"),
            Action::Remove => ("-", "remove"),
        };
        write!(f, "{mark} {word} {} ({})", self.id, self.kind)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        if !self.reasons.is_empty() {
            write!(f, ": {}", self.reasons.join(", "))?;
        }
        Ok(())
    }
}

/// What `apply` would do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Name of the stack.
    pub stack: String,
    /// Whether the stack is new.
    pub creates: bool,
    /// Random part of its names.
    pub suffix: String,
    /// Digest (`sha256:…`) of the project that functions are to have; `none` when there is none yet.
    pub project: String,
    /// The changes: removals and replacements first. Empty: nothing to do in the stack.
    pub changes: Vec<Change>,
    /// The change set to execute; none for a new stack, which is made in two steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_set: Option<String>,
}

impl Plan {
    pub(crate) fn new(
        stack: &str,
        suffix: String,
        project: String,
        creates: bool,
        mut changes: Vec<Change>,
        change_set: Option<String>,
    ) -> Self {
        changes.sort_by(|a, b| (a.action, &a.id).cmp(&(b.action, &b.id)));
        Self { stack: stack.to_owned(), creates, suffix, project, changes, change_set }
    }

    /// What would leave data behind. A plan with such changes is not applied.
    #[must_use]
    pub fn endangered(&self) -> Vec<String> {
        self.changes.iter().filter(|change| change.endangers_data()).map(ToString::to_string).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |action| self.changes.iter().filter(|change| change.action == action).count();
        let stack = &self.stack;
        if self.changes.is_empty() {
            return writeln!(f, "stack {stack}: no changes");
        }
        writeln!(
            f,
            "stack {stack} ({}): {} to add, {} to modify, {} to remove",
            if self.creates { "new" } else { "exists" },
            count(Action::Add),
            count(Action::Modify),
            count(Action::Remove),
        )?;
        let (replaced, perhaps) = (count(Action::Replace), count(Action::MayReplace));
        if replaced > 0 {
            writeln!(f, "!!! {replaced} WOULD BE REPLACED: a new resource takes the place of the old one")?;
        }
        if perhaps > 0 {
            writeln!(
                f,
                "!!! {perhaps} MAY BE REPLACED: it depends on values that are known when it is done"
            )?;
        }
        for change in &self.changes {
            writeln!(f, "  {change}")?;
        }
        for danger in self.endangered() {
            writeln!(f, "!!! holds data, so this plan is not carried out: {danger}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(changes: &[(Action, &str, &[&str])]) -> Plan {
        let changes = changes.iter().map(|(action, id, reasons)| Change {
            action: *action,
            id: (*id).to_owned(),
            kind: "AWS::S3::Bucket".to_owned(),
            name: None,
            reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
        });
        Plan::new("demo", "00000000".to_owned(), "none".to_owned(), false, changes.collect(), None)
    }

    #[test]
    fn data_is_in_danger_when_it_is_removed_replaced_or_renamed() {
        for (action, reasons, danger) in [
            (Action::Remove, &[][..], true),
            (Action::Replace, &["Tags"][..], true),
            (Action::MayReplace, &["BucketName (because of Suffix)"][..], true),
            (Action::MayReplace, &["NotificationConfiguration"][..], false),
            (Action::Modify, &["Tags"][..], false),
            (Action::Add, &[][..], false),
        ] {
            let found = plan(&[(action, "Anchor", reasons)]).endangered();
            assert_eq!(!found.is_empty(), danger, "{action:?} {reasons:?}");
            assert!(plan(&[(action, "Doorbell", reasons)]).endangered().is_empty(), "it holds no data");
        }
    }

    #[test]
    fn replacements_come_first_and_are_loud() {
        let text = plan(&[
            (Action::Add, "Tick", &[]),
            (Action::Replace, "Anchor", &["BucketName"]),
            (Action::MayReplace, "Data", &["BucketEncryption"]),
            (Action::Remove, "Vpc", &[]),
        ])
        .to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "stack demo (exists): 1 to add, 0 to modify, 1 to remove");
        assert_eq!(lines[1], "!!! 1 WOULD BE REPLACED: a new resource takes the place of the old one");
        assert_eq!(lines[2], "!!! 1 MAY BE REPLACED: it depends on values that are known when it is done");
        assert_eq!(lines[3], "  - remove Vpc (AWS::S3::Bucket)");
        assert_eq!(lines[4], "  ! REPLACE Anchor (AWS::S3::Bucket): BucketName");
        assert_eq!(lines[5], "  ! MAY REPLACE Data (AWS::S3::Bucket): BucketEncryption");
        assert_eq!(lines[6], "  + add Tick (AWS::S3::Bucket)");
        assert!(lines[7].starts_with("!!! holds data, so this plan is not carried out: ! REPLACE Anchor"));
    }
}
