//! From a request to an answer: everything but RunTask and task definitions.

use serde_json::{Map, Value, json};

use crate::{
    Shared, definitions, lock, process,
    reply::{Refusal, client, invalid, refuse},
    run,
    state::State,
};

/// Prefix of the target header.
const SERVICE: &str = "AmazonEC2ContainerServiceV20141113.";

pub(crate) fn handle(state: &Shared, target: &str, body: &[u8]) -> Result<Value, Refusal> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return refuse("SerializationException", "the body is not JSON");
    };
    let Some(members) = body.as_object() else {
        return refuse("SerializationException", "the body is not an object");
    };
    match target.strip_prefix(SERVICE).unwrap_or_default() {
        "RunTask" => run::run_task(state, members),
        "DescribeTasks" => describe_tasks(&lock(state), members),
        "ListTasks" => list_tasks(&lock(state), members),
        "StopTask" => stop_task(state, members),
        "RegisterTaskDefinition" => definitions::register(&mut lock(state), members),
        "DescribeTaskDefinition" => definitions::describe(&lock(state), members),
        _ => refuse("UnsupportedFeatureException", format!("this fake does not know {target}")),
    }
}

/// Refuses members that nothing here would judge.
pub(crate) fn only(members: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            refuse("UnsupportedFeatureException", format!("this fake does not know the member {name}"))
        }
        None => Ok(()),
    }
}

pub(crate) fn text<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The name of the cluster that is meant.
pub(crate) fn cluster(state: &State, members: &Map<String, Value>) -> Result<String, Refusal> {
    let given = match text(members, "cluster") {
        "" => "default",
        given => given,
    };
    let name = given.rsplit('/').next().unwrap_or_default();
    if state.clusters.contains(name) {
        return Ok(name.to_owned());
    }
    refuse("ClusterNotFoundException", "Cluster not found.")
}

fn describe_tasks(state: &State, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &["cluster", "tasks", "include"])?;
    let cluster = cluster(state, members)?;
    let asked = members.get("tasks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if asked.is_empty() {
        return invalid("Tasks cannot be empty.");
    }
    if asked.len() > 100 {
        return invalid("Tasks cannot have more than 100 elements.");
    }
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for id in asked.iter().filter_map(Value::as_str) {
        match state.visible(&cluster).find(|task| task.arn == id || task.id() == id) {
            Some(task) => tasks.push(task.json()),
            None => failures.push(json!({"arn": id, "reason": "MISSING"})),
        }
    }
    Ok(json!({"tasks": tasks, "failures": failures}))
}

fn list_tasks(state: &State, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &["cluster", "startedBy", "desiredStatus", "family", "maxResults", "nextToken"])?;
    let cluster = cluster(state, members)?;
    let (started_by, family) = (text(members, "startedBy"), text(members, "family"));
    if !started_by.is_empty() && !family.is_empty() {
        return invalid("startedBy must be the only filter");
    }
    let desired = match text(members, "desiredStatus") {
        "" => "RUNNING",
        desired => desired,
    };
    let limit = members.get("maxResults").and_then(Value::as_u64).unwrap_or(100);
    if !(1..=100).contains(&limit) {
        return invalid("maxResults must be between 1 and 100");
    }
    let from: usize = text(members, "nextToken").parse().unwrap_or(0);
    let found: Vec<&str> = state
        .visible(&cluster)
        .filter(|task| task.desired_status == desired)
        .filter(|task| started_by.is_empty() || task.request["startedBy"] == started_by)
        .filter(|task| family.is_empty() || task.definition["family"] == family)
        .map(|task| task.arn.as_str())
        .collect();
    let limit = usize::try_from(limit).unwrap_or(100);
    let page: Vec<&str> = found.iter().skip(from).take(limit).copied().collect();
    let mut answer = json!({"taskArns": page});
    if from + limit < found.len() {
        answer["nextToken"] = json!((from + limit).to_string());
    }
    Ok(answer)
}

fn stop_task(state: &Shared, members: &Map<String, Value>) -> Result<Value, Refusal> {
    only(members, &["cluster", "task", "reason"])?;
    let (answer, arn) = {
        let mut state = lock(state);
        let cluster = cluster(&state, members)?;
        let asked = text(members, "task");
        if text(members, "reason").chars().count() > 1_024 {
            return client("the reason is longer than 1024 characters");
        }
        let found = state.visible(&cluster).find(|task| task.arn == asked || task.id() == asked);
        let Some(arn) = found.map(|task| task.arn.clone()) else {
            return invalid("The referenced task was not found.");
        };
        let reason = text(members, "reason").to_owned();
        if let Some(task) = state.task_mut(&arn)
            && task.last_status != "STOPPED"
        {
            state.change(&arn, |task, _| {
                task.desired_status = "STOPPED";
                task.stop_code.get_or_insert("UserInitiated");
                task.stopped_reason.get_or_insert(reason);
            });
        }
        (state.task_mut(&arn).map(|task| task.json()).unwrap_or_default(), arn)
    };
    process::stop(state, &arn);
    Ok(json!({"task": answer}))
}
