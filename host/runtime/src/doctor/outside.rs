//! What a deployment of this machine keeps in S3: can it be reached, and can the anchor be one. Nothing is written.

use aws_sdk_s3::{Client, types::ObjectLockEnabled};
use pangolin_anchor_s3::policy::create_only;
use pangolin_aws::{Aws, CallError, Service};
use serde_json::Value;

use super::{Check, CheckStatus, check};
use crate::config::{AnchorConfig, Config, S3Config};

/// Name of the condition on the length of a lock.
const REMAINING_DAYS: &str = "s3:object-lock-remaining-retention-days";

const REACH: &str =
    "check [s3] endpoint, region and bucket, and the credentials in the environment; docs/config.md";

/// One line for each section that the configuration has.
pub(super) async fn checks(aws: &Aws, config: &Config) -> Vec<Check> {
    let client =
        aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(aws.path_style()).build();
    let client = Client::from_conf(client);
    let place = aws.endpoint(Service::S3).map_or_else(String::new, |url| format!(" at {url}"));
    let mut found = Vec::new();
    if let Some(S3Config { bucket: Some(bucket), prefix, .. }) = &config.s3 {
        let asked = reach(&client, bucket, prefix).await;
        found.push(match asked {
            Ok(()) => check("s3", CheckStatus::Ok, format!("bucket {bucket}{place} can be listed"), None),
            Err(error) => unreachable("s3", bucket, &place, &error),
        });
    }
    if let Some(anchor) = &config.anchor {
        let bucket = &anchor.bucket;
        found.push(match reach(&client, bucket, &anchor.prefix).await {
            Ok(()) => lock(&client, anchor, &place).await,
            Err(error) => unreachable("anchor", bucket, &place, &error),
        });
    }
    found
}

fn unreachable(name: &str, bucket: &str, place: &str, error: &CallError) -> Check {
    check(name, CheckStatus::Fail, format!("bucket {bucket}{place} cannot be listed: {error}"), Some(REACH))
}

/// Lists, as the daemon does.
async fn reach(client: &Client, bucket: &str, prefix: &str) -> Result<(), CallError> {
    let asked = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1).send().await;
    asked.map(drop).map_err(CallError::new)
}

/// Object Lock and the policy of an anchor's bucket.
async fn lock(client: &Client, anchor: &AnchorConfig, place: &str) -> Check {
    let AnchorConfig { bucket, retention_days, .. } = anchor;
    let is = |status, detail: String, hint| {
        check("anchor", status, format!("bucket {bucket}{place} {detail}"), hint)
    };
    let asked = client.get_object_lock_configuration().bucket(bucket).send().await.map_err(CallError::new);
    let enabled = match asked {
        Ok(found) => found
            .object_lock_configuration()
            .and_then(|lock| lock.object_lock_enabled())
            .is_some_and(|enabled| *enabled == ObjectLockEnabled::Enabled),
        Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => false,
        Err(error) => {
            let hint = "allow s3:GetBucketObjectLockConfiguration, or look yourself whether the bucket has Object Lock";
            return is(
                CheckStatus::Warn,
                format!("does not say whether it has Object Lock: {error}"),
                Some(hint),
            );
        }
    };
    if !enabled {
        let hint = "make a bucket with Object Lock and name it in [anchor]; it can hardly be added later";
        return is(
            CheckStatus::Fail,
            "has no Object Lock: what is in it can be deleted".to_owned(),
            Some(hint),
        );
    }
    let policy = match client.get_bucket_policy().bucket(bucket).send().await.map_err(CallError::new) {
        Ok(found) => serde_json::from_str(found.policy().unwrap_or_default()).unwrap_or_default(),
        Err(error) if error.code() == Some("NoSuchBucketPolicy") => Value::Null,
        Err(error) => {
            let hint = "allow s3:GetBucketPolicy, or look yourself; docs/config.md";
            return is(
                CheckStatus::Warn,
                format!("has Object Lock and does not show its policy: {error}"),
                Some(hint),
            );
        }
    };
    if let Some(floor) = floor(&policy).filter(|floor| floor > retention_days) {
        let hint = "raise anchor.retention_days, or make the bucket for shorter locks";
        let detail = format!("takes locks of at least {floor} days only, and [anchor] has {retention_days}");
        return is(CheckStatus::Fail, detail, Some(hint));
    }
    let missing = missing(&policy);
    if !missing.is_empty() {
        let hint = "give it the policy of docs/config.md: without it somebody can put a second version over a checkpoint, \
                    which is then contested";
        let detail =
            format!("has Object Lock, and its policy does not deny what {} deny", missing.join(", "));
        return is(CheckStatus::Warn, detail, Some(hint));
    }
    let detail = format!(
        "has Object Lock and a policy that makes it create-only; checkpoints are locked for {retention_days} days"
    );
    is(CheckStatus::Ok, detail, None)
}

fn statements(policy: &Value) -> Vec<&Value> {
    match &policy["Statement"] {
        Value::Array(all) => all.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// The shortest lock in days that a policy lets through.
fn floor(policy: &Value) -> Option<u32> {
    let days = statements(policy).into_iter().filter(|statement| statement["Effect"] == "Deny").filter_map(
        |statement| match &statement["Condition"]["NumericLessThan"][REMAINING_DAYS] {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|days| u32::try_from(days).ok()),
        },
    );
    days.max()
}

/// Statements of [`create_only`] that a policy does not have, by name. Which objects they are about is not looked at, and the
/// floor may be any.
fn missing(policy: &Value) -> Vec<String> {
    let wanted = serde_json::to_value(create_only("*", 1)).unwrap_or_default();
    let found = statements(policy);
    let has = |wanted: &Value| {
        found.iter().any(|found| {
            let actions = |statement: &Value| match &statement["Action"] {
                Value::Array(all) => all.clone(),
                one => vec![one.clone()],
            };
            let (given, conditions) = (actions(found), [&wanted["Condition"], &found["Condition"]]);
            let is_floor = |condition: &Value| !condition["NumericLessThan"][REMAINING_DAYS].is_null();
            found["Effect"] == "Deny"
                && actions(wanted).iter().all(|action| given.contains(action))
                && (conditions[0] == conditions[1] || conditions.into_iter().all(is_floor))
        })
    };
    let absent = statements(&wanted).into_iter().filter(|statement| !has(statement));
    absent.filter_map(|statement| statement["Sid"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use pangolin_s3_fake::S3Fake;

    use super::*;

    async fn found(s3: &S3Fake, sections: &str) -> Vec<(String, CheckStatus, String)> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pangolin.toml");
        let rest = "namespace = \"test\"\n[queues.default]\nconcurrency = 1\n[executors.dispatch]\nbackend = \"process\"\n";
        std::fs::write(&file, format!("{rest}{sections}")).unwrap();
        let aws = Aws::for_tests(&s3.endpoint(), 1, Aws::http()).unwrap();
        let checks = checks(&aws, &Config::load(&file).unwrap()).await;
        checks.into_iter().map(|check| (check.name, check.status, check.detail)).collect()
    }

    #[track_caller]
    fn is(found: &[(String, CheckStatus, String)], name: &str, status: CheckStatus, text: &str) {
        let [(found_name, found_status, detail)] = found else { panic!("{found:?}") };
        assert_eq!((found_name.as_str(), *found_status), (name, status), "{detail}");
        assert!(detail.contains(text), "{detail}");
    }

    #[tokio::test]
    async fn a_bucket_that_is_there_and_one_that_is_not() {
        let s3 = S3Fake::start().await.unwrap();
        s3.create_bucket("mine");
        is(&found(&s3, "[s3]\nbucket = \"mine\"\n").await, "s3", CheckStatus::Ok, "can be listed");
        is(&found(&s3, "[s3]\nbucket = \"other\"\n").await, "s3", CheckStatus::Fail, "NoSuchBucket");
        assert_eq!(found(&s3, "").await, []);
        assert_eq!(s3.keys("mine"), Vec::<String>::new(), "nothing is written");
    }

    #[tokio::test]
    async fn an_anchor_needs_a_lock_and_a_policy_that_lets_it_lock() {
        let s3 = S3Fake::start().await.unwrap();
        s3.create_bucket("open");
        s3.create_locked_bucket("locked");
        let anchor =
            |bucket: &str, days: u32| format!("[anchor]\nbucket = \"{bucket}\"\nretention_days = {days}\n");
        is(&found(&s3, &anchor("none", 9)).await, "anchor", CheckStatus::Fail, "NoSuchBucket");
        is(&found(&s3, &anchor("open", 9)).await, "anchor", CheckStatus::Fail, "no Object Lock");
        let bare = found(&s3, &anchor("locked", 9)).await;
        is(
            &bare,
            "anchor",
            CheckStatus::Warn,
            "CreateOnly, NoDeletion, NoExpiry, ComplianceOnly, LongEnough",
        );
        let policy = |days| serde_json::to_string(&create_only("arn:aws:s3:::locked", days)).unwrap();
        s3.set_policy("locked", &policy(10));
        is(&found(&s3, &anchor("locked", 9)).await, "anchor", CheckStatus::Fail, "at least 10 days");
        is(&found(&s3, &anchor("locked", 10)).await, "anchor", CheckStatus::Ok, "create-only");
        assert_eq!(s3.keys("locked"), Vec::<String>::new(), "nothing is written");
    }
}
