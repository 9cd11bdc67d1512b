//! Table and buckets.

use pangolin_anchor_s3::policy;
use pangolin_store_dynamodb::{PARTITION_KEY, SORT_KEY};
use serde_json::{Value, json};

use super::document::{Resource, Template, attribute, nothing, reference, sub, when};
use crate::names;

/// Shortest lock that the anchor's policy lets pass: that of the object that `verify` attacks.
pub(crate) const ANCHOR_FLOOR_DAYS: u32 = 1;

pub(super) const DATA_NAME: &str = "${AWS::StackName}-${Suffix}-data";
pub(super) const ANCHOR_NAME: &str = "${AWS::StackName}-${Suffix}-anchor";

/// ARN of the data bucket, or of something in it, without a reference to the resource: the bucket notifies functions whose
/// roles name it, which would be a circle.
pub(super) fn data_arn(rest: &str) -> Value {
    sub(&format!("arn:${{AWS::Partition}}:s3:::{DATA_NAME}{rest}"))
}

pub(super) fn anchor_arn(rest: &str) -> Value {
    sub(&format!("arn:${{AWS::Partition}}:s3:::{ANCHOR_NAME}{rest}"))
}

pub(super) fn add(template: &mut Template) {
    table(template);
    data(template);
    anchor(template);
}

fn table(template: &mut Template) {
    // No stream and no time to live: nothing in the ledger is ever deleted.
    let table = json!({
        "TableName": sub("${AWS::StackName}-${Suffix}"),
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": PARTITION_KEY, "AttributeType": "S" },
            { "AttributeName": SORT_KEY, "AttributeType": "S" },
        ],
        "KeySchema": [
            { "AttributeName": PARTITION_KEY, "KeyType": "HASH" },
            { "AttributeName": SORT_KEY, "KeyType": "RANGE" },
        ],
        "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": true },
        "DeletionProtectionEnabled": true,
        "SSESpecification": when(
            "HasKms",
            json!({ "SSEEnabled": true, "SSEType": "KMS", "KMSMasterKeyId": reference("KmsKeyArn") }),
            nothing(),
        ),
    });
    template.resource("Ledger", Resource::new("AWS::DynamoDB::Table", table).kept().tagged());
    template.output("TableName", "Table of the ledger", reference("Ledger"));
}

fn no_public_access() -> Value {
    json!({
        "BlockPublicAcls": true,
        "BlockPublicPolicy": true,
        "IgnorePublicAcls": true,
        "RestrictPublicBuckets": true,
    })
}

fn data(template: &mut Template) {
    let rule = |id: &str, prefix: &str, days: i32| {
        json!({
            "Id": id,
            "Status": "Enabled",
            "Prefix": prefix,
            "ExpirationInDays": days,
        })
    };
    // S3 tries the function when the notification is set, so the permission must be there before. DependsOn takes no
    // resource with a condition; naming it in the unselected half of a Select makes the same order.
    let notify = |function: &str, permission: &str, prefix: &str, suffix: Option<&str>| {
        let mut rules = vec![json!({ "Name": "prefix", "Value": prefix })];
        rules.extend(suffix.map(|suffix| json!({ "Name": "suffix", "Value": suffix })));
        json!({
            "Event": "s3:ObjectCreated:*",
            "Filter": { "S3Key": { "Rules": rules } },
            "Function": { "Fn::Select": [0, [attribute(function, "Arn"), reference(permission)]] },
        })
    };
    // No versions: a start document holds the secrets of its dispatch, and deleting it must delete it.
    let bucket = json!({
        "BucketName": sub(DATA_NAME),
        "BucketEncryption": { "ServerSideEncryptionConfiguration": [{
            "BucketKeyEnabled": when("HasKms", json!(true), nothing()),
            "ServerSideEncryptionByDefault": when(
                "HasKms",
                json!({ "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": reference("KmsKeyArn") }),
                json!({ "SSEAlgorithm": "AES256" }),
            ),
        }] },
        "LifecycleConfiguration": { "Rules": [
            rule("secrets-go", names::STARTS_PREFIX, names::STARTS_DAYS),
            rule("dispatches-end", names::DISPATCH_PREFIX, names::DISPATCH_DAYS),
            {
                "Id": "no-broken-uploads",
                "Status": "Enabled",
                "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 },
            },
        ] },
        "NotificationConfiguration": when(
            "HasCode",
            json!({ "LambdaConfigurations": [
                notify("Inbox", "InboxMayBeCalledByBucket", names::INBOX_NEW_PREFIX, None),
                notify(
                    "TaskEvents",
                    "TaskEventsMayBeCalledByBucket",
                    names::DISPATCH_PREFIX,
                    Some(names::COMPLETION_SUFFIX),
                ),
            ] }),
            nothing(),
        ),
        "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] },
        "PublicAccessBlockConfiguration": no_public_access(),
    });
    template.resource("Data", Resource::new("AWS::S3::Bucket", bucket).kept().tagged());
    let policy = json!({
        "Bucket": reference("Data"),
        "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "EncryptedTransport",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [data_arn(""), data_arn("/*")],
                    "Condition": { "Bool": { "aws:SecureTransport": "false" } },
                },
                {
                    // Blobs are named by digest, messages by their sender, and a worker writes each of its objects once:
                    // none is ever written again.
                    "Sid": "CreateOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:PutObject",
                    "Resource": [data_arn("/blobs/*"), data_arn("/inbox/*"), data_arn("/dispatches/*")],
                    "Condition": { "Null": { "s3:if-none-match": "true" } },
                },
            ],
        },
    });
    template.resource("DataPolicy", Resource::new("AWS::S3::BucketPolicy", policy));
    template.output("DataBucket", "Blobs, inbox, dispatches, configuration, code", reference("Data"));
}

fn anchor(template: &mut Template) {
    let bucket = json!({
        "BucketName": sub(ANCHOR_NAME),
        "ObjectLockEnabled": true,
        "ObjectLockConfiguration": {
            "ObjectLockEnabled": "Enabled",
            "Rule": { "DefaultRetention": { "Mode": "COMPLIANCE", "Days": reference("AnchorRetentionDays") } },
        },
        "VersioningConfiguration": { "Status": "Enabled" },
        // Checkpoints are public by nature; a key of the customer would be one more way to lose them.
        "BucketEncryption": { "ServerSideEncryptionConfiguration": [
            { "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } },
        ] },
        "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] },
        "PublicAccessBlockConfiguration": no_public_access(),
    });
    template.resource("Anchor", Resource::new("AWS::S3::Bucket", bucket).kept().tagged());
    let document = serde_json::to_value(policy::create_only("@", ANCHOR_FLOOR_DAYS)).unwrap_or_default();
    let policy = json!({ "Bucket": reference("Anchor"), "PolicyDocument": with_arn(document) });
    // The policy outlives the stack as the bucket does.
    template.resource("AnchorPolicy", Resource::new("AWS::S3::BucketPolicy", policy).kept());
    template.output("AnchorBucket", "Checkpoints under Object Lock", reference("Anchor"));
    template.output("AnchorRetentionDays", "Days of their locks", reference("AnchorRetentionDays"));
}

/// Puts the bucket's ARN where the policy was made with `@`.
fn with_arn(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('@') => anchor_arn(&text[1..]),
        Value::Array(values) => values.into_iter().map(with_arn).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, with_arn(value))).collect(),
        other => other,
    }
}
