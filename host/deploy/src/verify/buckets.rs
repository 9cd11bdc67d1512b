//! Data bucket and anchor bucket.

use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, ObjectLockEnabled, ObjectLockRetentionMode,
};
use pangolin_aws::CallError;
use serde_json::Value;

use super::{APPLY, Check, Checks};
use crate::{Deployer, names, stack::Described, template};

impl Deployer {
    pub(super) async fn look_at_buckets(&self, all: &mut Vec<Check>, now: &Described) {
        for (output, resource) in [("DataBucket", "DataPolicy"), ("AnchorBucket", "AnchorPolicy")] {
            let bucket = match now.output(output) {
                Ok(bucket) => bucket.to_owned(),
                Err(error) => {
                    Checks::about(all, output).unreadable("settings", &error);
                    continue;
                }
            };
            let is_anchor = output == "AnchorBucket";
            let kind = if is_anchor { "anchor" } else { "data" };
            let mut checks = Checks::about(all, format!("{kind} bucket {bucket}"));
            self.public_access(&mut checks, &bucket).await;
            self.policy(&mut checks, &bucket, resource).await;
            self.versions(&mut checks, &bucket, is_anchor).await;
            if is_anchor {
                let days = now.output("AnchorRetentionDays").unwrap_or_default();
                self.lock(&mut checks, &bucket, days).await;
            } else {
                self.expiry(&mut checks, &bucket).await;
            }
        }
    }

    async fn public_access(&self, checks: &mut Checks<'_>, bucket: &str) {
        let what = "public access";
        match self.s3.get_public_access_block().bucket(bucket).send().await {
            Ok(answer) => {
                let blocked = answer.public_access_block_configuration().is_some_and(|it| {
                    [
                        it.block_public_acls(),
                        it.block_public_policy(),
                        it.ignore_public_acls(),
                        it.restrict_public_buckets(),
                    ]
                    .iter()
                    .all(|flag| *flag == Some(true))
                });
                checks.equal(what, if blocked { "blocked" } else { "possible" }, "blocked", APPLY);
            }
            Err(error) => checks.unreadable(what, &CallError::new(error)),
        }
    }

    async fn policy(&self, checks: &mut Checks<'_>, bucket: &str, resource: &str) {
        let expected =
            template::template().get(resource).map(|it| it["Properties"]["PolicyDocument"].clone());
        let expected = normal(with_name(expected.unwrap_or_default(), bucket));
        match self.s3.get_bucket_policy().bucket(bucket).send().await {
            Ok(answer) => {
                let found = answer.policy().and_then(|text| serde_json::from_str::<Value>(text).ok());
                let found = normal(found.unwrap_or_default());
                let missing = names_of_other(&expected, &found);
                let extra = names_of_other(&found, &expected);
                let fine = missing.is_empty() && extra.is_empty();
                let text = if fine {
                    "as in the template".to_owned()
                } else {
                    format!("missing or other: {missing:?}, not ours: {extra:?}; {APPLY}")
                };
                checks.add("policy", fine, text);
            }
            Err(error) => checks.unreadable("policy", &CallError::new(error)),
        }
    }

    async fn versions(&self, checks: &mut Checks<'_>, bucket: &str, wanted: bool) {
        match self.s3.get_bucket_versioning().bucket(bucket).send().await {
            Ok(answer) => {
                let found = answer.status().map_or("never enabled", BucketVersioningStatus::as_str);
                let (expected, next) = if wanted {
                    (
                        BucketVersioningStatus::Enabled.as_str(),
                        "an anchor without versions holds nothing: deploy a new stack",
                    )
                } else {
                    (
                        "never enabled",
                        "deleted secrets of dispatches would stay as old versions: suspend it and delete old versions below starts/",
                    )
                };
                checks.equal("versions", found, expected, next);
            }
            Err(error) => checks.unreadable("versions", &CallError::new(error)),
        }
    }

    async fn lock(&self, checks: &mut Checks<'_>, bucket: &str, days: &str) {
        let next = "S3 does not lock what is written there: do not use this anchor";
        let expected = format!(
            "{}, {} for {days} days",
            ObjectLockEnabled::Enabled.as_str(),
            ObjectLockRetentionMode::Compliance.as_str()
        );
        match self.s3.get_object_lock_configuration().bucket(bucket).send().await {
            Ok(answer) => {
                let found = answer.object_lock_configuration();
                let enabled = found
                    .and_then(|it| it.object_lock_enabled())
                    .map_or("not enabled", ObjectLockEnabled::as_str);
                let rule = found.and_then(|it| it.rule()).and_then(|it| it.default_retention());
                let found = match rule {
                    None => format!("{enabled}, no default"),
                    Some(rule) => format!(
                        "{enabled}, {} for {} days",
                        rule.mode().map_or("no mode", ObjectLockRetentionMode::as_str),
                        rule.days().or(rule.years().map(|years| years * 365)).unwrap_or_default()
                    ),
                };
                checks.equal("object lock", found, expected, next);
            }
            Err(error) => {
                let error = CallError::new(error);
                checks.add("object lock", false, format!("none ({error}), expected {expected}; {next}"));
            }
        }
    }

    async fn expiry(&self, checks: &mut Checks<'_>, bucket: &str) {
        let what = "expiry of objects";
        let expected = format!(
            "{} after {} days, {} after {} days",
            names::DISPATCH_PREFIX,
            names::DISPATCH_DAYS,
            names::STARTS_PREFIX,
            names::STARTS_DAYS
        );
        match self.s3.get_bucket_lifecycle_configuration().bucket(bucket).send().await {
            Ok(answer) => {
                let mut found = Vec::new();
                for rule in answer.rules().iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled) {
                    #[expect(deprecated, reason = "servers answer with the old place of the prefix too")]
                    let prefix =
                        rule.filter().and_then(|it| it.prefix()).or(rule.prefix()).unwrap_or_default();
                    if let Some(days) = rule.expiration().and_then(|it| it.days()) {
                        found.push(format!("{prefix} after {days} days"));
                    }
                }
                found.sort();
                checks.equal(
                    what,
                    found.join(", "),
                    expected,
                    "start documents hold secrets, and everything else must stay: apply again",
                );
            }
            Err(error) => checks.unreadable(what, &CallError::new(error)),
        }
    }
}

/// Fills in the ARN of the bucket where the template has an intrinsic function.
fn with_name(value: Value, bucket: &str) -> Value {
    match value {
        Value::Object(map) => match map.get("Fn::Sub").and_then(Value::as_str) {
            // Both policies name their bucket and what is in it; the name ends at the first slash.
            Some(text) => {
                let rest = text.rsplit_once(":::").map_or("", |(_, name)| name);
                let path = rest.find('/').map_or("", |at| &rest[at..]);
                Value::String(format!("arn:aws:s3:::{bucket}{path}"))
            }
            None => map.into_iter().map(|(key, value)| (key, with_name(value, bucket))).collect(),
        },
        Value::Array(values) => values.into_iter().map(|value| with_name(value, bucket)).collect(),
        other => other,
    }
}

/// The statements in a form in which equal ones are equal: a list of one is its element, `"*"` and `{"AWS": "*"}` are the
/// same, partitions do not differ.
fn normal(policy: Value) -> Vec<Value> {
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(statement) => vec![statement.clone()],
        None => Vec::new(),
    };
    statements.into_iter().map(plain).collect()
}

fn plain(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<_> = values.into_iter().map(plain).collect();
            values.sort_by_key(Value::to_string);
            if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
        }
        Value::Object(map) if map.len() == 1 && map.contains_key("AWS") => plain(map["AWS"].clone()),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Value::String(text) => match text.strip_prefix("arn:").and_then(|rest| rest.split_once(':')) {
            Some((partition, rest)) if partition.starts_with("aws") => {
                Value::String(format!("arn:aws:{rest}"))
            }
            _ => Value::String(text),
        },
        // Policies come back with numbers and truth values as strings.
        other => Value::String(other.to_string()),
    }
}

/// Names of the statements of `these` that `those` have not.
fn names_of_other(these: &[Value], those: &[Value]) -> Vec<String> {
    let other = these.iter().filter(|statement| !those.contains(statement));
    other.map(|statement| statement["Sid"].as_str().unwrap_or("(no name)").to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_are_compared_by_meaning() {
        let ours = json!({ "Statement": [{ "Sid": "A", "Principal": "*", "Action": ["s3:PutObject"], "Resource": [
            { "Fn::Sub": "arn:${AWS::Partition}:s3:::${AWS::StackName}-x/*" }, { "Fn::Sub": "arn:${AWS::Partition}:s3:::${AWS::StackName}-x" },
        ] }] });
        let theirs = json!({ "Statement": { "Resource": ["arn:aws-cn:s3:::b", "arn:aws-cn:s3:::b/*"], "Sid": "A",
            "Principal": { "AWS": "*" }, "Action": "s3:PutObject" } });
        let (ours, theirs) = (normal(with_name(ours, "b")), normal(theirs));
        assert_eq!(ours, theirs);
        let other = normal(
            json!({ "Statement": { "Sid": "A", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b" } }),
        );
        assert_eq!(names_of_other(&ours, &other), ["A"]);
    }
}
