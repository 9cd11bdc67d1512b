//! Task definitions.

use serde_json::{Map, Value, json};

use crate::{
    handle::{only, text},
    reply::{Refusal, client, refuse},
    state::{ACCOUNT, REGION, State},
};

const MEMBERS: [&str; 10] = [
    "family",
    "executionRoleArn",
    "taskRoleArn",
    "networkMode",
    "containerDefinitions",
    "volumes",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "runtimePlatform",
];

const CONTAINER_MEMBERS: [&str; 14] = [
    "name",
    "image",
    "cpu",
    "memory",
    "essential",
    "environment",
    "mountPoints",
    "linuxParameters",
    "stopTimeout",
    "user",
    "readonlyRootFilesystem",
    "logConfiguration",
    "workingDirectory",
    "privileged",
];

/// CPU units and the memory that Fargate gives with them: least, most and step in MiB.
const SIZES: [(u64, u64, u64, u64); 7] = [
    (256, 512, 2_048, 512),
    (512, 1_024, 4_096, 1_024),
    (1_024, 2_048, 8_192, 1_024),
    (2_048, 4_096, 16_384, 1_024),
    (4_096, 8_192, 30_720, 1_024),
    (8_192, 16_384, 61_440, 4_096),
    (16_384, 32_768, 122_880, 8_192),
];

fn is_size(cpu: u64, memory: u64) -> bool {
    // 256 has 512, 1024 and 2048 but not 1536.
    SIZES.iter().any(|(units, least, most, step)| {
        *units == cpu && (*least..=*most).contains(&memory) && memory.is_multiple_of(*step)
    }) && (cpu, memory) != (256, 1_536)
}

/// By family, `family:revision` or ARN.
pub(crate) fn find(state: &State, name: &str) -> Option<Value> {
    let name = name.rsplit('/').next()?;
    let (family, revision) =
        name.split_once(':').map_or((name, None), |(family, number)| (family, Some(number)));
    let revisions = state.definitions.get(family)?;
    match revision {
        None => revisions.last().cloned(),
        Some(number) => revisions.get(number.parse::<usize>().ok()?.checked_sub(1)?).cloned(),
    }
}

pub(crate) fn describe(state: &State, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &["taskDefinition"])?;
    match find(state, text(members, "taskDefinition")) {
        Some(found) => Ok(json!({"taskDefinition": found})),
        None => client("Unable to describe task definition."),
    }
}

pub(crate) fn register(state: &mut State, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &MEMBERS)?;
    let family = text(members, "family");
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if family.is_empty() || family.len() > 255 || !family.bytes().all(legal) {
        return client("family has illegal characters or more than 255");
    }
    if members.get("requiresCompatibilities") != Some(&json!(["FARGATE"])) {
        return refuse("UnsupportedFeatureException", "this fake knows Fargate only");
    }
    if text(members, "networkMode") != "awsvpc" {
        return client("Fargate only supports network mode 'awsvpc'.");
    }
    let number = |name: &str| text(members, name).parse::<u64>().unwrap_or(0);
    let (cpu, memory) = (number("cpu"), number("memory"));
    if !is_size(cpu, memory) {
        return client("No Fargate configuration exists for given values.");
    }
    let containers =
        members.get("containerDefinitions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // The process that stands in is one.
    let [container] = containers else {
        return refuse("UnsupportedFeatureException", "this fake runs tasks of exactly one container");
    };
    let Some(container) = container.as_object() else { return client("a container must be an object") };
    check_container(container, members, memory)?;
    let revisions = state.definitions.entry(family.to_owned()).or_default();
    let revision = revisions.len() + 1;
    let mut definition = Value::Object(members.clone());
    definition["revision"] = json!(revision);
    definition["status"] = json!("ACTIVE");
    definition["taskDefinitionArn"] =
        json!(format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revision}"));
    revisions.push(definition.clone());
    Ok(json!({"taskDefinition": definition}))
}

fn check_container(
    container: &Map<String, Value>,
    members: &Map<String, Value>,
    task_memory: u64,
) -> Result<(), Refusal> {
    only(container, &CONTAINER_MEMBERS)?;
    if text(container, "name").is_empty() || text(container, "image").is_empty() {
        return client("Container.image and Container.name should not be null or empty.");
    }
    if container.get("privileged") == Some(&json!(true)) {
        return client("Fargate does not support privileged containers.");
    }
    if container
        .get("memory")
        .and_then(Value::as_u64)
        .is_some_and(|memory| memory > task_memory || memory < 6)
    {
        return client("Invalid 'memory' setting for container.");
    }
    if container
        .get("stopTimeout")
        .and_then(Value::as_u64)
        .is_some_and(|seconds| !(2..=120).contains(&seconds))
    {
        return client("Stop timeout must be between 2 and 120 seconds on Fargate.");
    }
    let add = &container.get("linuxParameters").unwrap_or(&Value::Null)["capabilities"]["add"];
    if add.as_array().is_some_and(|list| list.iter().any(|name| name != "SYS_PTRACE")) {
        return client("Fargate adds no capability but SYS_PTRACE.");
    }
    let volumes = members.get("volumes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for point in container.get("mountPoints").and_then(Value::as_array).into_iter().flatten() {
        if !volumes.iter().any(|volume| volume["name"] == point["sourceVolume"]) {
            return client(format!("Unknown volume {}", point["sourceVolume"]));
        }
    }
    if container.get("logConfiguration").is_some_and(|log| log["logDriver"] == "awslogs")
        && text(members, "executionRoleArn").is_empty()
    {
        return client(
            "Fargate requires task definition to have execution role ARN to support log driver awslogs.",
        );
    }
    Ok(())
}
