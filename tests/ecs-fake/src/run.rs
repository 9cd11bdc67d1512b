//! RunTask.

use serde_json::{Map, Value, json};

use crate::{
    Shared, definitions,
    handle::{cluster, only, text},
    lock, process,
    reply::{Refusal, client, invalid, refuse},
    state::{ACCOUNT, REGION, State, Task},
};

/// Characters of JSON in `overrides`.
const OVERRIDES_MAX: usize = 8_192;

const MEMBERS: [&str; 15] = [
    "cluster",
    "taskDefinition",
    "overrides",
    "count",
    "startedBy",
    "launchType",
    "capacityProviderStrategy",
    "networkConfiguration",
    "clientToken",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "platformVersion",
    "propagateTags",
    "tags",
    "group",
];

pub(crate) fn run_task(shared: &Shared, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &MEMBERS)?;
    let (answer, started) = {
        let mut state = lock(shared);
        let cluster = cluster(&state, members)?;
        let definition = check(&state, members)?;
        if let Some(answer) = repeated(&state, &cluster, members)? {
            return Ok(answer);
        }
        if let Some((reason, times)) = state.placement.take() {
            if times > 1 {
                state.placement = Some((reason.clone(), times - 1));
            }
            return Ok(json!({"tasks": [], "failures": [{"reason": reason}]}));
        }
        let count = members.get("count").and_then(Value::as_u64).unwrap_or(1);
        let arns: Vec<String> = (0..count).map(|_| add(&mut state, &cluster, &definition, members)).collect();
        let token = text(members, "clientToken");
        if !token.is_empty() {
            let key = (cluster, token.to_owned());
            state.tokens.insert(key, (Value::Object(members.clone()), arns.clone()));
        }
        (shown(&mut state, &arns), arns)
    };
    for arn in started {
        process::start(shared, &arn);
    }
    Ok(answer)
}

fn shown(state: &mut State, arns: &[String]) -> Value {
    let tasks: Vec<Value> =
        arns.iter().filter_map(|arn| state.task_mut(arn).map(|task| task.json())).collect();
    json!({"tasks": tasks, "failures": []})
}

/// The tasks of an earlier request with this token.
fn repeated(state: &State, cluster: &str, members: &Map<String, Value>) -> Result<Option<Value>, Refusal> {
    let key = (cluster.to_owned(), text(members, "clientToken").to_owned());
    let Some((request, arns)) = state.tokens.get(&key) else { return Ok(None) };
    if request.as_object() != Some(members) {
        return Err(Refusal {
            code: "ConflictException",
            message: "The clientToken was used with other parameters.".to_owned(),
            resource_ids: arns.clone(),
        });
    }
    let tasks: Vec<Value> =
        state.tasks.iter().filter(|task| arns.contains(&task.arn)).map(Task::json).collect();
    Ok(Some(json!({"tasks": tasks, "failures": []})))
}

/// Judges everything that does not depend on earlier requests; answers the task definition.
fn check(state: &State, members: &Map<String, Value>) -> Result<Value, Refusal> {
    let Some(definition) = definitions::find(state, text(members, "taskDefinition")) else {
        return client("TaskDefinition not found.");
    };
    let token = text(members, "clientToken");
    if token.len() > 64 || !token.bytes().all(|byte| (33..=126).contains(&byte)) {
        return invalid("clientToken has more than 64 characters or others than 33 to 126");
    }
    let started_by = text(members, "startedBy");
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte);
    if started_by.len() > 128 || !started_by.bytes().all(legal) {
        return invalid("startedBy has more than 128 characters or illegal ones");
    }
    if !(1..=10).contains(&members.get("count").and_then(Value::as_u64).unwrap_or(1)) {
        return invalid("count must be between 1 and 10");
    }
    let providers = members.get("capacityProviderStrategy").and_then(Value::as_array);
    match (text(members, "launchType"), providers) {
        ("", None) => return invalid("No launch type and no capacity provider (this fake has no defaults)"),
        ("FARGATE", None) => {}
        ("", Some(list)) => {
            let known = |entry: &Value| {
                ["FARGATE", "FARGATE_SPOT"].map(Value::from).contains(&entry["capacityProvider"])
            };
            if list.is_empty() || !list.iter().all(known) {
                return invalid("The specified capacity provider was not found.");
            }
        }
        (_, Some(_)) => {
            return invalid("Specifying both a launch type and capacity provider strategy is not supported.");
        }
        (other, None) => return refuse("UnsupportedFeatureException", format!("launch type {other}")),
    }
    check_network(members.get("networkConfiguration").unwrap_or(&Value::Null))?;
    if let Some(overrides) = members.get("overrides") {
        check_overrides(overrides, &definition)?;
    }
    Ok(definition)
}

fn check_network(network: &Value) -> Result<(), Refusal> {
    let Some(network) = network["awsvpcConfiguration"].as_object() else {
        return invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.");
    };
    only(network, &["subnets", "securityGroups", "assignPublicIp"])?;
    let length = |name: &str| network.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    if !(1..=16).contains(&length("subnets")) {
        return invalid("subnets can not be empty and has at most 16 elements.");
    }
    if length("securityGroups") > 5 {
        return invalid("securityGroups has at most 5 elements.");
    }
    if !["", "ENABLED", "DISABLED"].contains(&text(network, "assignPublicIp")) {
        return invalid("assignPublicIp must be ENABLED or DISABLED");
    }
    Ok(())
}

fn check_overrides(overrides: &Value, definition: &Value) -> Result<(), Refusal> {
    let length = overrides.to_string().chars().count();
    if length > OVERRIDES_MAX {
        return invalid(format!("Overrides length must be at most {OVERRIDES_MAX}, it is {length}"));
    }
    let Some(members) = overrides.as_object() else { return invalid("overrides must be an object") };
    only(members, &["containerOverrides"])?;
    let names = definition["containerDefinitions"].as_array().map_or(&[][..], Vec::as_slice);
    for container in members.get("containerOverrides").and_then(Value::as_array).into_iter().flatten() {
        let Some(container) = container.as_object() else {
            return invalid("a container override must be an object");
        };
        only(container, &["name", "environment"])?;
        let name = text(container, "name");
        if !names.iter().any(|definition| definition["name"] == name) {
            return invalid(format!(
                "Override for container named {name} is not a container in the TaskDefinition."
            ));
        }
    }
    Ok(())
}

fn add(state: &mut State, cluster: &str, definition: &Value, members: &Map<String, Value>) -> String {
    let number = state.tasks.len() + 1;
    let id = format!("{number:032x}");
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{id}");
    let now = state.now_ms();
    state.tasks.push(Task {
        arn: arn.clone(),
        cluster: cluster.to_owned(),
        definition: definition.clone(),
        request: Value::Object(members.clone()),
        last_status: "PROVISIONING",
        desired_status: "RUNNING",
        stop_code: None,
        stopped_reason: None,
        exit_code: None,
        created_ms: now,
        started_ms: None,
        stopped_ms: None,
        version: 0,
        pid: None,
        forgotten: false,
        dir: state.dir.path().join(id),
    });
    state.change(&arn, |_, _| {});
    arn
}
