//! ECS without processes: a task runs until it is told to end, and then a stand-in has done what the worker would have done
//! ([`super::worker`]). For counting with very many tasks only. It judges nothing: `pangolin-ecs-fake` is strict, and whatever
//! is counted here passes there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use pangolin_s3_fake::S3Fake;
use serde_json::{Value, json};

use super::worker;

/// As many as one page of ListTasks has.
const PAGE: usize = 100;

#[derive(Debug, Clone, Default)]
pub(super) struct InstantEcs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By family.
    definitions: HashMap<String, Value>,
    /// In the order of their starts.
    running: BTreeMap<u64, Task>,
    /// Number of a task, by its ARN and by `startedBy`.
    numbers: HashMap<String, u64>,
    stopped: HashMap<u64, Value>,
    started: u64,
}

#[derive(Debug)]
struct Task {
    shown: Value,
    /// URL of the start document.
    start: String,
}

type Refusal = (&'static str, String);

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl InstantEcs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tasks that were started.
    pub(super) fn started(&self) -> u64 {
        self.lock().started
    }

    /// The oldest tasks end: their workers have left what workers leave. Answers how many there were.
    ///
    /// # Errors
    /// When a start document cannot be used.
    pub(super) fn end(&self, most: usize, s3: &S3Fake) -> Result<usize, String> {
        let mut state = self.lock();
        for ended in 0..most {
            let Some((number, mut task)) = state.running.pop_first() else { return Ok(ended) };
            worker::work(s3, &task.start)?;
            task.shown["lastStatus"] = json!("STOPPED");
            task.shown["desiredStatus"] = json!("STOPPED");
            task.shown["stopCode"] = json!("EssentialContainerExited");
            task.shown["stoppedAt"] = json!(seconds());
            task.shown["containers"][0]["exitCode"] = json!(0);
            state.stopped.insert(number, task.shown);
        }
        Ok(most)
    }

    pub(super) fn handle(&self, operation: &str, asked: &Value) -> Result<Value, Refusal> {
        let mut state = self.lock();
        match operation {
            "DescribeTaskDefinition" => {
                let family = asked["taskDefinition"].as_str().unwrap_or_default();
                let found = state.definitions.get(family).cloned();
                let found = found.map(|definition| json!({ "taskDefinition": definition }));
                found.ok_or_else(|| ("ClientException", "Unable to describe task definition.".to_owned()))
            }
            "RegisterTaskDefinition" => {
                let family = asked["family"].as_str().unwrap_or_default().to_owned();
                let mut definition = asked.clone();
                definition["status"] = json!("ACTIVE");
                definition["revision"] = json!(1);
                definition["taskDefinitionArn"] =
                    json!(format!("arn:aws:ecs:us-east-1:000000000000:task-definition/{family}:1"));
                state.definitions.insert(family, definition.clone());
                Ok(json!({ "taskDefinition": definition }))
            }
            "RunTask" => Ok(state.run(asked)),
            "ListTasks" => Ok(state.list(asked)),
            "DescribeTasks" => Ok(state.describe(asked)),
            other => Err(("UnsupportedFeatureException", format!("{other} is not counted here"))),
        }
    }
}

impl State {
    fn run(&mut self, asked: &Value) -> Value {
        let started_by = asked["startedBy"].as_str().unwrap_or_default().to_owned();
        // What `clientToken` does: it is derived from the same as `startedBy`.
        if let Some(found) = self.numbers.get(&started_by).and_then(|number| self.shown(*number)) {
            return json!({ "tasks": [found], "failures": [] });
        }
        self.started += 1;
        let number = self.started;
        let arn = format!("arn:aws:ecs:us-east-1:000000000000:task/default/{number:032x}");
        let container = &asked["overrides"]["containerOverrides"][0];
        let shown = json!({
            "taskArn": arn, "startedBy": started_by, "lastStatus": "RUNNING", "desiredStatus": "RUNNING",
            "createdAt": seconds(), "containers": [{ "name": container["name"] }],
        });
        let start = container["environment"][0]["value"].as_str().unwrap_or_default().to_owned();
        self.numbers.extend([(arn, number), (started_by, number)]);
        self.running.insert(number, Task { shown: shown.clone(), start });
        json!({ "tasks": [shown], "failures": [] })
    }

    fn shown(&self, number: u64) -> Option<&Value> {
        self.running.get(&number).map(|task| &task.shown).or_else(|| self.stopped.get(&number))
    }

    fn list(&self, asked: &Value) -> Value {
        let is_running = asked["desiredStatus"] != "STOPPED";
        if let Some(started_by) = asked["startedBy"].as_str() {
            let found = self.numbers.get(started_by).and_then(|number| self.shown(*number));
            let found = found.filter(|task| (task["desiredStatus"] == "RUNNING") == is_running);
            let arns: Vec<&Value> = found.map(|task| &task["taskArn"]).into_iter().collect();
            return json!({ "taskArns": arns });
        }
        // The pages are of the running ones: nobody asks for all that stopped.
        let after: u64 = asked["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or_default();
        let page: Vec<(&u64, &Task)> = self.running.range(after + 1..).take(PAGE).collect();
        let arns: Vec<&Value> = page.iter().map(|(_, task)| &task.shown["taskArn"]).collect();
        let mut answer = json!({ "taskArns": arns });
        if let (Some((last, _)), PAGE) = (page.last(), page.len()) {
            answer["nextToken"] = json!(last.to_string());
        }
        answer
    }

    fn describe(&self, asked: &Value) -> Value {
        let arns = asked["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        let found = |arn: &Value| self.shown(*self.numbers.get(arn.as_str()?)?);
        let tasks: Vec<&Value> = arns.iter().filter_map(found).collect();
        json!({ "tasks": tasks, "failures": [] })
    }
}
