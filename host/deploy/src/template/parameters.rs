//! What may differ between two stacks.

use serde_json::json;

use super::document::Template;

/// Value of a code parameter while there is no code. Without code a stack is everything but its functions.
pub(crate) const NO_CODE: &str = "none";

/// Value of the parameter `Project` while there is no function that reads one.
pub(crate) const NO_PROJECT: &str = "none";

pub(super) fn add(template: &mut Template) {
    template.parameter(
        "Suffix",
        json!({
            "Type": "String",
            "AllowedPattern": "^[a-z0-9]{8}$",
            "Description": "Random part of names. Chosen once; a later stack of the same name does not meet what an earlier one left.",
        }),
    );
    for (name, function) in [("CodeInbox", "inbox"), ("CodeTick", "tick"), ("CodeTaskEvents", "task-events")]
    {
        template.parameter(
            name,
            json!({
                "Type": "String",
                "Default": NO_CODE,
                "Description": format!("Key of the code of {function} in the data bucket. {NO_CODE} while there is no bucket yet."),
            }),
        );
    }
    template.parameter(
        "Project",
        json!({
            "Type": "String",
            "Default": NO_PROJECT,
            "AllowedPattern": format!("^({NO_PROJECT}|sha256:[0-9a-f]{{64}})$"),
            "Description": "Digest of the archive with pangolin.toml, plugins and their native code. The tick takes no other one.",
        }),
    );
    template.parameter(
        "Architecture",
        json!({
            "Type": "String",
            "Default": "arm64",
            "AllowedValues": ["arm64", "x86_64"],
            "Description": "Processor of the functions. The code must be built for it.",
        }),
    );
    template.parameter(
        "VpcId",
        json!({
            "Type": "String",
            "Default": "",
            "Description": "VPC of the workers. Empty: the stack makes a small one with public subnets.",
        }),
    );
    template.parameter(
        "SubnetIds",
        json!({
            "Type": "CommaDelimitedList",
            "Default": "",
            "Description": "Subnets of the workers in VpcId. They need a way to S3, to the image registry and to CloudWatch Logs.",
        }),
    );
    template.parameter(
        "AssignPublicIp",
        json!({
            "Type": "String",
            "Default": "DISABLED",
            "AllowedValues": ["ENABLED", "DISABLED"],
            "Description": "Whether workers in SubnetIds get a public address. In the stack's own VPC they always do.",
        }),
    );
    template.parameter(
        "AnchorRetentionDays",
        json!({
            "Type": "Number",
            "Default": 3650,
            "MinValue": 2,
            "MaxValue": 36500,
            "Description": "For how long checkpoints are locked. Nobody can shorten it afterwards, not even AWS support.",
        }),
    );
    template.parameter(
        "LogRetentionDays",
        json!({
            "Type": "Number",
            "Default": 30,
            "AllowedValues": [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
            "Description": "For how long logs of functions and workers are kept.",
        }),
    );
    template.parameter(
        "StuckAfterMinutes",
        json!({
            "Type": "Number",
            "Default": 180,
            "MinValue": 5,
            "MaxValue": 10080,
            "Description": "An active run without a new entry for so long raises an alarm. Longer than the longest attempt.",
        }),
    );
    template.parameter(
        "TickConcurrency",
        json!({
            "Type": "Number",
            "Default": 3,
            "MinValue": 0,
            "MaxValue": 100,
            "Description": "How many ticks may run at once. 0 reserves nothing, for accounts whose limit is too low to reserve.",
        }),
    );
    template.parameter(
        "AlarmTopicArn",
        json!({
            "Type": "String",
            "Default": "",
            "Description": "SNS topic that alarms notify. Empty: they only change colour.",
        }),
    );
    template.parameter(
        "KmsKeyArn",
        json!({
            "Type": "String",
            "Default": "",
            "Description": "KMS key for the table and the data bucket. Empty: keys of AWS.",
        }),
    );
    template.condition("HasCode", json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "CodeTick" }, NO_CODE] }] }));
    template.condition("MakeVpc", json!({ "Fn::Equals": [{ "Ref": "VpcId" }, ""] }));
    template
        .condition("HasTopic", json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "AlarmTopicArn" }, ""] }] }));
    template.condition("HasKms", json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "KmsKeyArn" }, ""] }] }));
    template.condition(
        "ReserveTick",
        json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "TickConcurrency" }, 0] }] }),
    );
}
