//! Rights of roles, each statement with its reason.

use serde_json::{Map, Value, json};

use super::document::{Resource, Template, nothing, reference, when};

/// One statement that allows something.
#[derive(Debug, Clone)]
pub struct Allow {
    /// Its name.
    pub sid: &'static str,
    /// Actions.
    pub actions: Vec<&'static str>,
    /// ARNs, as values of the template.
    pub resources: Vec<Value>,
    /// Condition block.
    pub condition: Option<Value>,
    /// Condition of the template under which the statement is there.
    pub only_if: Option<&'static str>,
    /// Why the role needs it.
    pub reason: &'static str,
}

impl Allow {
    pub(super) fn new(
        sid: &'static str,
        reason: &'static str,
        actions: &[&'static str],
        resources: Vec<Value>,
    ) -> Self {
        Self { sid, actions: actions.to_vec(), resources, condition: None, only_if: None, reason }
    }

    pub(super) fn only(mut self, condition: Value) -> Self {
        self.condition = Some(condition);
        self
    }

    pub(super) fn only_if(mut self, condition: &'static str) -> Self {
        self.only_if = Some(condition);
        self
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("Sid".to_owned(), json!(self.sid));
        map.insert("Effect".to_owned(), json!("Allow"));
        map.insert("Action".to_owned(), json!(self.actions));
        map.insert("Resource".to_owned(), json!(self.resources));
        if let Some(condition) = &self.condition {
            map.insert("Condition".to_owned(), condition.clone());
        }
        let statement = Value::Object(map);
        match self.only_if {
            Some(condition) => when(condition, statement, nothing()),
            None => statement,
        }
    }
}

/// Everything that one role may do.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Logical id of the role.
    pub role: &'static str,
    /// The service that takes the role.
    pub service: &'static str,
    /// What the role is for, or why it may do nothing.
    pub reason: &'static str,
    /// The statements.
    pub allows: Vec<Allow>,
}

/// Adds a role to the template. Only `service` may take it, and only for this account.
pub(super) fn add_role(template: &mut Template, grant: Grant) {
    let mut trust = json!({
        "Effect": "Allow",
        "Principal": { "Service": grant.service },
        "Action": "sts:AssumeRole",
    });
    // Lambda takes a role without naming an account when it makes a function.
    if grant.service != "lambda.amazonaws.com" {
        trust["Condition"] = json!({ "StringEquals": { "aws:SourceAccount": reference("AWS::AccountId") } });
    }
    let mut role = json!({
        "Description": grant.reason,
        "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [trust] },
    });
    if !grant.allows.is_empty() {
        let statements: Vec<_> = grant.allows.iter().map(Allow::to_json).collect();
        role["Policies"] = json!([{
            "PolicyName": "rights",
            "PolicyDocument": { "Version": "2012-10-17", "Statement": statements },
        }]);
    }
    template.resource(grant.role, Resource::new("AWS::IAM::Role", role).tagged());
    template.grant(grant);
}
