//! When somebody should look.

use serde_json::{Value, json};

use super::document::{Resource, Template, attribute, nothing, reference, sub, when};
use super::functions::FUNCTIONS;
use crate::names;

pub(super) fn add(template: &mut Template) {
    let stack = json!([{ "Name": "Stack", "Value": reference("AWS::StackName") }]);
    let function = |id: &str| json!([{ "Name": "FunctionName", "Value": reference(id) }]);
    let minutes = |count: u32| count * 60;
    alarm(
        template,
        "RunIsStuck",
        json!({
            "AlarmDescription": "An active run has had no new entry for StuckAfterMinutes: pangolin orch watch shows what it waits for",
            "Namespace": names::METRICS_NAMESPACE,
            "MetricName": names::METRIC_STALLED,
            "Dimensions": stack,
            "Statistic": "Maximum",
            "Period": minutes(5),
            "EvaluationPeriods": 1,
            "Threshold": reference("StuckAfterMinutes"),
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
        }),
        None,
    );
    alarm(
        template,
        "DeadLettersWait",
        json!({
            "AlarmDescription": "Something could not be handled and lies in the dead letter queue",
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateNumberOfMessagesVisible",
            "Dimensions": [{ "Name": "QueueName", "Value": attribute("DeadLetters", "QueueName") }],
            "Statistic": "Maximum",
            "Period": minutes(5),
            "EvaluationPeriods": 1,
            "Threshold": 0,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
        }),
        None,
    );
    alarm(
        template,
        "TickIsSilent",
        json!({
            "AlarmDescription": "The tick was not called for ten minutes: look at the schedule and the account's Lambda limit",
            "Namespace": "AWS/Lambda",
            "MetricName": "Invocations",
            "Dimensions": function("Tick"),
            "Statistic": "Sum",
            "Period": minutes(5),
            "EvaluationPeriods": 2,
            "Threshold": 1,
            "ComparisonOperator": "LessThanThreshold",
            "TreatMissingData": "breaching",
        }),
        Some("HasCode"),
    );
    for (id, function_id) in [("InboxFails", 0), ("TickFails", 1), ("TaskEventsFails", 2)] {
        let it = &FUNCTIONS[function_id];
        alarm(
            template,
            id,
            json!({
                "AlarmDescription": format!("Function {} ends with errors: its log says which", it.name),
                "Namespace": "AWS/Lambda",
                "MetricName": "Errors",
                "Dimensions": function(it.id),
                "Statistic": "Sum",
                "Period": minutes(5),
                "EvaluationPeriods": 3,
                "DatapointsToAlarm": 2,
                "Threshold": 0,
                "ComparisonOperator": "GreaterThanThreshold",
                "TreatMissingData": "notBreaching",
            }),
            Some("HasCode"),
        );
    }
}

fn alarm(template: &mut Template, id: &str, mut properties: Value, condition: Option<&'static str>) {
    if let Some(map) = properties.as_object_mut() {
        let name = sub(&format!("${{AWS::StackName}}-${{Suffix}}-{id}"));
        map.insert("AlarmName".to_owned(), name);
        let actions = when("HasTopic", json!([reference("AlarmTopicArn")]), nothing());
        map.insert("AlarmActions".to_owned(), actions);
    }
    let alarm = Resource::new("AWS::CloudWatch::Alarm", properties);
    template.resource(
        id,
        match condition {
            Some(condition) => alarm.when(condition),
            None => alarm,
        },
    );
}
