//! What tasks run in and with which rights.

use serde_json::json;

use super::document::{Resource, Template, attribute, reference, sub};
use super::rights::{Allow, Grant, add_role};

pub(super) fn add(template: &mut Template) {
    let cluster = json!({
        "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
        // Costs more than the rest of an idle stack; the tick has its own figures.
        "ClusterSettings": [{ "Name": "containerInsights", "Value": "disabled" }],
    });
    template.resource("Cluster", Resource::new("AWS::ECS::Cluster", cluster).tagged());
    let logs = json!({
        "LogGroupName": sub("/pangolin/${AWS::StackName}-${Suffix}/workers"),
        "RetentionInDays": reference("LogRetentionDays"),
    });
    template.resource("WorkerLogs", Resource::new("AWS::Logs::LogGroup", logs).tagged());
    add_role(
        template,
        Grant {
            role: "TaskRole",
            service: "ecs-tasks.amazonaws.com",
            reason: "Worker tasks: no rights, they hold pre-signed URLs of their own dispatch",
            allows: Vec::new(),
        },
    );
    add_role(
        template,
        Grant {
            role: "ExecutionRole",
            service: "ecs-tasks.amazonaws.com",
            reason: "ECS itself: fetches the image and writes logs before and beside the worker",
            allows: vec![
                Allow::new(
                    "RegistryLogin",
                    "A login is for the registry as a whole: the action knows no resource.",
                    &["ecr:GetAuthorizationToken"],
                    vec![json!("*")],
                ),
                Allow::new(
                    "FetchImage",
                    "Images in repositories of this account. Images elsewhere are public or have rights of their own.",
                    &["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                    vec![sub("arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/*")],
                ),
                Allow::new(
                    "WriteLogs",
                    "What workers print, into the group of this stack.",
                    &["logs:CreateLogStream", "logs:PutLogEvents"],
                    vec![attribute("WorkerLogs", "Arn")],
                ),
            ],
        },
    );
    template.output("ClusterArn", "Cluster of workers", attribute("Cluster", "Arn"));
    template.output("TaskRoleArn", "Role of tasks; no rights", attribute("TaskRole", "Arn"));
    template.output("ExecutionRoleArn", "Role of ECS for tasks", attribute("ExecutionRole", "Arn"));
    template.output("WorkerLogGroup", "Logs of workers", reference("WorkerLogs"));
}
