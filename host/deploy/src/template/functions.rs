//! The three functions, what calls them, and what they may do.

use pangolin_store_dynamodb::{READ_RIGHTS, WRITE_RIGHTS};
use serde_json::{Value, json};

use super::document::{Resource, Template, attribute, nothing, reference, sub, when};
use super::rights::{Allow, Grant, add_role};
use super::storage::{DATA_NAME, anchor_arn, data_arn};
use crate::names;

/// Time limit of the tick. It ends by itself earlier.
pub(crate) const TICK_TIMEOUT_SECONDS: u32 = 180;

/// Time limit of the functions that only ring.
const RING_TIMEOUT_SECONDS: u32 = 15;

/// How often the schedule calls the tick. EventBridge Scheduler knows nothing shorter.
pub(crate) const SCHEDULE: &str = "rate(1 minute)";

/// One function of the stack.
pub(crate) struct Function {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) code: &'static str,
    pub(crate) role: &'static str,
    logs: &'static str,
    retries: &'static str,
    pub(crate) memory_mb: u32,
    disk_mb: u32,
    pub(crate) timeout_seconds: u32,
    /// Whether it may feed itself through the queue. Lambda stops such loops unless told otherwise.
    pub(crate) may_loop: bool,
    does: &'static str,
}

/// The functions, in the order of their names in [`crate::Packages`].
pub(crate) const FUNCTIONS: [Function; 3] = [
    Function {
        id: "Inbox",
        name: "inbox",
        code: "CodeInbox",
        role: "InboxRole",
        logs: "InboxLogs",
        retries: "InboxRetries",
        memory_mb: 128,
        disk_mb: 512,
        timeout_seconds: RING_TIMEOUT_SECONDS,
        may_loop: false,
        does: "rings the doorbell when a message arrived",
    },
    Function {
        id: "Tick",
        name: "tick",
        code: "CodeTick",
        role: "TickRole",
        logs: "TickLogs",
        retries: "TickRetries",
        memory_mb: 1_024,
        disk_mb: 4_096,
        timeout_seconds: TICK_TIMEOUT_SECONDS,
        may_loop: true,
        does: "runs the engine until nothing more can be done now",
    },
    Function {
        id: "TaskEvents",
        name: "task-events",
        code: "CodeTaskEvents",
        role: "TaskEventsRole",
        logs: "TaskEventsLogs",
        retries: "TaskEventsRetries",
        memory_mb: 128,
        disk_mb: 512,
        timeout_seconds: RING_TIMEOUT_SECONDS,
        may_loop: false,
        does: "rings the doorbell when a worker ended",
    },
];

/// Where the engine's signing key and the users' secrets are. Secrets Manager adds six characters to an ARN.
pub(super) fn secret_arn(rest: &str) -> Value {
    sub(&format!(
        "arn:${{AWS::Partition}}:secretsmanager:${{AWS::Region}}:${{AWS::AccountId}}:secret:{SECRETS}{rest}"
    ))
}

const SECRETS: &str = "pangolin/${AWS::StackName}-${Suffix}/";

pub(super) fn add(template: &mut Template) {
    for function in &FUNCTIONS {
        let logs = json!({
            "LogGroupName": sub(&format!("/pangolin/${{AWS::StackName}}-${{Suffix}}/{}", function.name)),
            "RetentionInDays": reference("LogRetentionDays"),
        });
        template.resource(function.logs, Resource::new("AWS::Logs::LogGroup", logs).tagged());
        let mut allows = vec![Allow::new(
            "WriteLogs",
            "Its own log group, made by the stack; it may not make others.",
            &["logs:CreateLogStream", "logs:PutLogEvents"],
            vec![attribute(function.logs, "Arn")],
        )];
        allows.extend(rights(function.name));
        let grant = Grant {
            role: function.role,
            service: "lambda.amazonaws.com",
            reason: match function.name {
                "tick" => {
                    "Function tick: the only role that writes the ledger, starts tasks and reads the key"
                }
                "inbox" => "Function inbox: told of new messages, rings the doorbell",
                _ => "Function task-events: told of ended workers, rings the doorbell",
            },
            allows,
        };
        add_role(template, grant);
        add_function(template, function);
    }
    bucket_calls(template);
    schedule(template);
    queue_calls_tick(template);
    ecs_calls(template);
    template.output(
        "TickRoleArn",
        "Role of the tick; the only reader of the signing key",
        attribute("TickRole", "Arn"),
    );
    template.output("SecretsPrefix", "Names of secrets begin with it", sub(SECRETS));
}

fn add_function(template: &mut Template, function: &Function) {
    let mut properties = json!({
        "FunctionName": sub(&format!("${{AWS::StackName}}-${{Suffix}}-{}", function.name)),
        "Description": format!("Pangolin: {}", function.does),
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Architectures": [reference("Architecture")],
        // The bucket's name and not a reference to it: the bucket comes after the function that it notifies.
        "Code": { "S3Bucket": sub(DATA_NAME), "S3Key": reference(function.code) },
        "Role": attribute(function.role, "Arn"),
        "MemorySize": function.memory_mb,
        "EphemeralStorage": { "Size": function.disk_mb },
        "Timeout": function.timeout_seconds,
        "RecursiveLoop": if function.may_loop { "Allow" } else { "Terminate" },
        "LoggingConfig": { "LogFormat": "Text", "LogGroup": reference(function.logs) },
        "Environment": { "Variables": {
            names::ENV_DEPLOYMENT: sub(&format!("s3://{DATA_NAME}/{}", names::DEPLOYMENT_KEY)),
            names::ENV_DOORBELL: reference("Doorbell"),
            names::ENV_STACK: reference("AWS::StackName"),
        } },
    });
    if function.name == "tick" {
        // Code and project change in one step: a function never reads what was packed for another release.
        properties["Environment"]["Variables"][names::ENV_PROJECT] = reference("Project");
        properties["ReservedConcurrentExecutions"] =
            when("ReserveTick", reference("TickConcurrency"), nothing());
    }
    template
        .resource(function.id, Resource::new("AWS::Lambda::Function", properties).when("HasCode").tagged());
    let invoke = if function.name == "tick" {
        // The next minute comes anyway; a late repetition would only be a tick more.
        json!({
            "FunctionName": reference(function.id),
            "Qualifier": "$LATEST",
            "MaximumEventAgeInSeconds": 60,
            "MaximumRetryAttempts": 0,
        })
    } else {
        json!({
            "FunctionName": reference(function.id),
            "Qualifier": "$LATEST",
            "MaximumEventAgeInSeconds": 3_600,
            "MaximumRetryAttempts": 2,
            "DestinationConfig": { "OnFailure": { "Destination": attribute("DeadLetters", "Arn") } },
        })
    };
    template
        .resource(function.retries, Resource::new("AWS::Lambda::EventInvokeConfig", invoke).when("HasCode"));
}

fn rights(function: &str) -> Vec<Allow> {
    let ring = |reason| Allow::new("Ring", reason, &["sqs:SendMessage"], vec![attribute("Doorbell", "Arn")]);
    match function {
        // An event wakes the tick and is not read further: no rights to data, none to its key.
        "inbox" | "task-events" => vec![ring("Sends a doorbell, which wakes the tick."), dead_letters()],
        _ => tick_rights(ring("Rings for itself when work is left, and with a delay for the next timer.")),
    }
}

fn dead_letters() -> Allow {
    Allow::new(
        "KeepFailures",
        "Lambda puts events that failed every time there, with the rights of the function.",
        &["sqs:SendMessage"],
        vec![attribute("DeadLetters", "Arn")],
    )
}

fn kms(reason: &'static str, actions: &[&'static str]) -> Allow {
    Allow::new("UseKey", reason, actions, vec![reference("KmsKeyArn")]).only_if("HasKms")
}

fn tick_rights(ring: Allow) -> Vec<Allow> {
    let ledger: Vec<_> = READ_RIGHTS.iter().chain(WRITE_RIGHTS).copied().collect();
    let family = format!(
        "arn:${{AWS::Partition}}:ecs:${{AWS::Region}}:${{AWS::AccountId}}:task-definition/{}*",
        names::task_family_prefix("${AWS::StackName}")
    );
    let in_cluster = || json!({ "ArnEquals": { "ecs:cluster": attribute("Cluster", "Arn") } });
    let tasks = json!({ "Fn::Join": ["", [
        sub("arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:task/"), reference("Cluster"), "/*",
    ]] });
    vec![
        Allow::new(
            "Ledger",
            "Reads and commits. No right to delete: nothing in a ledger is ever deleted.",
            &ledger,
            vec![attribute("Ledger", "Arn")],
        ),
        Allow::new(
            "ReadData",
            "Blobs, messages, results of workers, configuration.",
            &["s3:GetObject"],
            ["/blobs/*", "/inbox/*", "/dispatches/*", "/starts/*", "/config/*"].map(data_arn).to_vec(),
        ),
        Allow::new(
            "WriteData",
            "Blobs, answers to messages, envelopes of dispatches. Pre-signed URLs of workers work with this right.",
            &["s3:PutObject"],
            ["/blobs/*", "/inbox/done/*", "/dispatches/*", "/starts/*"].map(data_arn).to_vec(),
        ),
        Allow::new(
            "TidyUp",
            "Removes settled messages, and what a dispatch leaves: start documents hold secrets.",
            &["s3:DeleteObject"],
            ["/inbox/new/*", "/dispatches/*", "/starts/*"].map(data_arn).to_vec(),
        ),
        Allow::new(
            "ListData",
            "Messages are found by listing, and without this S3 answers 403 for an object that is not there.",
            &["s3:ListBucket"],
            vec![data_arn("")],
        ),
        Allow::new(
            "Publish",
            "Writes checkpoints under a lock. The bucket's policy lets nothing else pass.",
            &["s3:PutObject", "s3:PutObjectRetention"],
            vec![anchor_arn("/log/*")],
        ),
        Allow::new(
            "ReadAnchor",
            "Looks at what is published, with its versions and locks.",
            &["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention"],
            vec![anchor_arn("/log/*")],
        ),
        Allow::new(
            "ListAnchor",
            "Finds the newest checkpoint, and second versions of one.",
            &["s3:ListBucket", "s3:ListBucketVersions"],
            vec![anchor_arn("")],
        ),
        ring,
        Allow::new(
            "HearDoorbell",
            "Lambda reads the queue with the rights of the function.",
            &["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
            vec![attribute("Doorbell", "Arn")],
        ),
        Allow::new(
            "StartTasks",
            "Starts workers: only task definitions of this stack, only in its cluster.",
            &["ecs:RunTask"],
            vec![sub(&family)],
        )
        .only(in_cluster()),
        Allow::new(
            "StopTasks",
            "Looks at its tasks and stops them.",
            &["ecs:DescribeTasks", "ecs:StopTask"],
            vec![tasks],
        )
        .only(in_cluster()),
        Allow::new(
            "FindTasks",
            "Finds a task that was started before a crash. ListTasks knows no task as a resource, only the cluster as a condition.",
            &["ecs:ListTasks"],
            vec![json!("*")],
        )
        .only(in_cluster()),
        Allow::new(
            "DescribeImages",
            "Asks whether there is a definition for an image and a size. The action knows no resource.",
            &["ecs:DescribeTaskDefinition"],
            vec![json!("*")],
        ),
        Allow::new(
            "RegisterImages",
            "Makes a definition for an image and a size that is new, below the name of this stack.",
            &["ecs:RegisterTaskDefinition"],
            vec![sub(&format!("{family}:*"))],
        ),
        Allow::new(
            "GiveRoles",
            "A task definition names two roles; only these two, only to ECS.",
            &["iam:PassRole"],
            vec![attribute("TaskRole", "Arn"), attribute("ExecutionRole", "Arn")],
        )
        .only(json!({ "StringEquals": { "iam:PassedToService": "ecs-tasks.amazonaws.com" } })),
        Allow::new(
            "ReadSecrets",
            "The signing key and the secrets that plans name, all below the prefix of this stack.",
            &["secretsmanager:GetSecretValue"],
            vec![secret_arn("*")],
        ),
        Allow::new(
            "ReadWorkerLogs",
            "Shows what a worker printed when it left nothing else.",
            &["logs:GetLogEvents"],
            vec![attribute("WorkerLogs", "Arn")],
        ),
        kms(
            "Table and data bucket are encrypted with the customer's key.",
            &["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"],
        ),
    ]
}

fn bucket_calls(template: &mut Template) {
    for (id, function) in
        [("InboxMayBeCalledByBucket", "Inbox"), ("TaskEventsMayBeCalledByBucket", "TaskEvents")]
    {
        let permission = json!({
            "Action": "lambda:InvokeFunction",
            "FunctionName": reference(function),
            "Principal": "s3.amazonaws.com",
            "SourceAccount": reference("AWS::AccountId"),
            "SourceArn": data_arn(""),
        });
        template.resource(id, Resource::new("AWS::Lambda::Permission", permission).when("HasCode"));
    }
}

fn schedule(template: &mut Template) {
    add_role(
        template,
        Grant {
            role: "ScheduleRole",
            service: "scheduler.amazonaws.com",
            reason: "EventBridge Scheduler: calls the tick",
            allows: vec![Allow::new(
                "CallTick",
                "The floor under all doorbells: a look every minute.",
                &["lambda:InvokeFunction"],
                vec![sub(
                    "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-${Suffix}-tick",
                )],
            )],
        },
    );
    let schedule = json!({
        "Name": sub("${AWS::StackName}-${Suffix}-tick"),
        "Description": "Pangolin: a tick every minute",
        "ScheduleExpression": SCHEDULE,
        "FlexibleTimeWindow": { "Mode": "OFF" },
        "State": "ENABLED",
        "Target": {
            "Arn": attribute("Tick", "Arn"),
            "RoleArn": attribute("ScheduleRole", "Arn"),
            "Input": "{\"doorbell\":\"schedule\"}",
            "RetryPolicy": { "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0 },
        },
    });
    template.resource("EveryMinute", Resource::new("AWS::Scheduler::Schedule", schedule).when("HasCode"));
    template.output_if("HasCode", "ScheduleName", "Schedule of the tick", reference("EveryMinute"));
}

fn queue_calls_tick(template: &mut Template) {
    let mapping = json!({
        "EventSourceArn": attribute("Doorbell", "Arn"),
        "FunctionName": reference("Tick"),
        "BatchSize": 10,
        // Doorbells that ring together are one look.
        "MaximumBatchingWindowInSeconds": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        // The least that Lambda takes. A reserve below it would throttle, and throttled messages count as failed.
        "ScalingConfig": { "MaximumConcurrency": 2 },
    });
    template.resource(
        "DoorbellToTick",
        // The role must be able to read the queue when the mapping is made; the function refers to the role.
        Resource::new("AWS::Lambda::EventSourceMapping", mapping).when("HasCode"),
    );
    template.output_if(
        "HasCode",
        "DoorbellMapping",
        "What connects doorbell and tick",
        reference("DoorbellToTick"),
    );
}

fn ecs_calls(template: &mut Template) {
    let rule = json!({
        "Description": "Pangolin: a worker's task stopped",
        "State": "ENABLED",
        "EventPattern": {
            "source": ["aws.ecs"],
            "detail-type": ["ECS Task State Change"],
            "detail": { "clusterArn": [attribute("Cluster", "Arn")], "lastStatus": ["STOPPED"] },
        },
        "Targets": [{
            "Id": "task-events",
            "Arn": attribute("TaskEvents", "Arn"),
            "DeadLetterConfig": { "Arn": attribute("DeadLetters", "Arn") },
            "RetryPolicy": { "MaximumEventAgeInSeconds": 3_600, "MaximumRetryAttempts": 10 },
        }],
    });
    template.resource("TaskStopped", Resource::new("AWS::Events::Rule", rule).when("HasCode"));
    let permission = json!({
        "Action": "lambda:InvokeFunction",
        "FunctionName": reference("TaskEvents"),
        "Principal": "events.amazonaws.com",
        "SourceArn": attribute("TaskStopped", "Arn"),
    });
    template.resource(
        "TaskEventsMayBeCalledByRule",
        Resource::new("AWS::Lambda::Permission", permission).when("HasCode"),
    );
    for (output, function) in
        [("InboxFunction", "Inbox"), ("TickFunction", "Tick"), ("TaskEventsFunction", "TaskEvents")]
    {
        template.output_if("HasCode", output, "Name of the function", reference(function));
    }
}
