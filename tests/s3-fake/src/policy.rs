//! Deny statements of bucket policies.
//!
//! Allow statements are ignored: every key may do everything that is not denied. What this program cannot judge is an
//! error when the policy is set.

use serde_json::Value;

/// A request as a policy sees it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) action: &'a str,
    /// Whether it is about an object and not about the bucket.
    pub(crate) on_object: bool,
    /// Condition keys that are present.
    pub(crate) keys: Vec<(&'static str, String)>,
}

/// The deny statements.
#[derive(Debug)]
pub(crate) struct Policy(Vec<Deny>);

#[derive(Debug)]
struct Deny {
    sid: String,
    actions: Vec<String>,
    on_objects: bool,
    on_bucket: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    operator: String,
    key: String,
    values: Vec<String>,
}

const KEYS: [&str; 4] = [
    "s3:if-none-match",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "aws:SecureTransport",
];

const OPERATORS: [&str; 5] = ["Null", "StringEquals", "StringNotEquals", "NumericLessThan", "Bool"];

impl Policy {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let statements = value.get("Statement").and_then(Value::as_array).ok_or("no Statement")?;
        let denies = statements.iter().filter(|statement| statement["Effect"] == "Deny");
        Ok(Self(denies.map(deny).collect::<Result<_, _>>()?))
    }

    /// The statement that denies a request.
    pub(crate) fn denies(&self, asked: &Asked<'_>) -> Option<&str> {
        let denies = |deny: &&Deny| {
            let place = if asked.on_object { deny.on_objects } else { deny.on_bucket };
            place
                && deny.actions.iter().any(|action| action == asked.action || action == "s3:*")
                && deny.conditions.iter().all(|condition| condition.holds(asked))
        };
        self.0.iter().find(denies).map(|deny| deny.sid.as_str())
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{other} is no text")),
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

fn deny(statement: &Value) -> Result<Deny, String> {
    let members = statement.as_object().ok_or("a statement is no object")?;
    for name in members.keys() {
        if !["Sid", "Effect", "Principal", "Action", "Resource", "Condition"].contains(&name.as_str()) {
            return Err(format!("cannot judge {name}"));
        }
    }
    if statement["Principal"] != "*" {
        return Err("cannot judge a principal other than \"*\"".to_owned());
    }
    let actions = texts(&statement["Action"])?;
    if let Some(action) = actions.iter().find(|action| action.contains('*') && *action != "s3:*") {
        return Err(format!("cannot judge the action {action}"));
    }
    let resources = texts(&statement["Resource"])?;
    let mut conditions = Vec::new();
    for (operator, keys) in statement.get("Condition").and_then(Value::as_object).into_iter().flatten() {
        if !OPERATORS.contains(&operator.as_str()) {
            return Err(format!("cannot judge the operator {operator}"));
        }
        for (key, values) in keys.as_object().ok_or("a condition is no object")? {
            if !KEYS.contains(&key.as_str()) {
                return Err(format!("cannot judge the key {key}"));
            }
            conditions.push(Condition {
                operator: operator.clone(),
                key: key.clone(),
                values: texts(values)?,
            });
        }
    }
    Ok(Deny {
        sid: statement["Sid"].as_str().unwrap_or("without a name").to_owned(),
        actions,
        on_objects: resources.iter().any(|resource| resource.ends_with("/*")),
        on_bucket: resources.iter().any(|resource| !resource.ends_with("/*")),
        conditions,
    })
}

impl Condition {
    /// Several values of one condition are alternatives. A negated operator holds for an absent key, the others do not.
    fn holds(&self, asked: &Asked<'_>) -> bool {
        let found = asked.keys.iter().find(|(key, _)| *key == self.key).map(|(_, value)| value.as_str());
        let any = |test: &dyn Fn(&str) -> bool| self.values.iter().any(|value| test(value));
        match self.operator.as_str() {
            "Null" => any(&|value| (value == "true") == found.is_none()),
            "StringNotEquals" => found.is_none_or(|found| !any(&|value| value == found)),
            "NumericLessThan" => found
                .and_then(|found| found.parse::<f64>().ok())
                .is_some_and(|found| any(&|value| value.parse::<f64>().is_ok_and(|value| found < value))),
            _ => found.is_some_and(|found| any(&|value| value == found)),
        }
    }
}
