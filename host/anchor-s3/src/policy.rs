//! The policy of an anchor bucket.

use std::collections::BTreeMap;

use serde::Serialize;

/// A bucket policy. Serialises to the JSON that S3 and CloudFormation take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    /// Version of the policy language.
    pub version: &'static str,
    /// The statements.
    pub statement: Vec<Statement>,
}

/// A statement that denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// Its name.
    pub sid: &'static str,
    /// Always `Deny`: what may be done is in the roles.
    pub effect: &'static str,
    /// Everybody.
    pub principal: &'static str,
    /// Actions.
    pub action: Vec<&'static str>,
    /// ARNs.
    pub resource: Vec<String>,
    /// Operator → key → value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub condition: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    /// Why it is there, for people. Not part of the JSON: the policy language has no comments.
    #[serde(skip)]
    pub reason: &'static str,
}

/// Makes a bucket create-only: nothing is overwritten, nothing is deleted, nothing is locked in a weaker way than the anchor
/// does it or for less than `floor_days`.
///
/// `bucket_arn` is taken as it is, so that a template may give a reference that is filled in later
/// (`${AnchorBucket.Arn}` inside of `Fn::Sub`).
///
/// Whoever may change the policy can take it away. That cannot remove what is locked, and what they add then makes a
/// checkpoint *contested*.
#[must_use]
pub fn create_only(bucket_arn: &str, floor_days: u32) -> PolicyDocument {
    let objects = || vec![format!("{bucket_arn}/*")];
    let both = || vec![bucket_arn.to_owned(), format!("{bucket_arn}/*")];
    let deny = |sid,
                reason,
                action: &[&'static str],
                resource,
                condition: Option<(&'static str, &'static str, String)>| {
        let condition = condition.map(|(operator, key, value)| (operator, BTreeMap::from([(key, value)])));
        Statement {
            sid,
            effect: "Deny",
            principal: "*",
            action: action.to_vec(),
            resource,
            condition: condition.into_iter().collect(),
            reason,
        }
    };
    let writes = ["s3:PutObject", "s3:PutObjectRetention"];
    let statement = vec![
        deny(
            "CreateOnly",
            "A write without If-None-Match could put a second version over a checkpoint. Multipart uploads and copies carry no condition and are denied with it.",
            &["s3:PutObject"],
            objects(),
            Some(("Null", "s3:if-none-match", "true".to_owned())),
        ),
        deny(
            "NoDeletion",
            "A delete marker hides a checkpoint, and If-None-Match takes it for an absent object.",
            &["s3:DeleteObject", "s3:DeleteObjectVersion"],
            objects(),
            None,
        ),
        deny(
            "NoExpiry",
            "A life-cycle rule could put delete markers on checkpoints.",
            &["s3:PutLifecycleConfiguration"],
            vec![bucket_arn.to_owned()],
            None,
        ),
        deny(
            "ComplianceOnly",
            "In mode GOVERNANCE, and without a lock, some principals may delete.",
            &writes,
            objects(),
            Some(("StringNotEquals", "s3:object-lock-mode", "COMPLIANCE".to_owned())),
        ),
        deny(
            "LongEnough",
            "A lock of a day would be a lock in name only.",
            &writes,
            objects(),
            Some(("NumericLessThan", "s3:object-lock-remaining-retention-days", floor_days.to_string())),
        ),
        deny(
            "EncryptedTransport",
            "Checkpoints are public, the requests that write them are not.",
            &["s3:*"],
            both(),
            Some(("Bool", "aws:SecureTransport", "false".to_owned())),
        ),
    ];
    PolicyDocument { version: "2012-10-17", statement }
}
