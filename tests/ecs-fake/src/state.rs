//! What the server knows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{StandIn, TaskView, events::Events};

pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const REGION: &str = "us-east-1";

/// A stopped task can be seen for at least an hour; strictly no longer here.
const VANISH_MS: i64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clusters: BTreeSet<String>,
    pub(crate) images: BTreeMap<String, StandIn>,
    pub(crate) any_image: Option<StandIn>,
    /// Revisions by family, oldest first.
    pub(crate) definitions: BTreeMap<String, Vec<Value>>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) tokens: HashMap<(String, String), (Value, Vec<String>)>,
    pub(crate) events: Events,
    pub(crate) visibility_delay_ms: i64,
    pub(crate) vanish_ms: i64,
    pub(crate) offset_ms: i64,
    pub(crate) placement: Option<(String, u32)>,
    pub(crate) held: Option<Vec<String>>,
    pub(crate) dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) arn: String,
    pub(crate) cluster: String,
    pub(crate) definition: Value,
    pub(crate) request: Value,
    pub(crate) last_status: &'static str,
    pub(crate) desired_status: &'static str,
    pub(crate) stop_code: Option<&'static str>,
    pub(crate) stopped_reason: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) created_ms: i64,
    pub(crate) started_ms: Option<i64>,
    pub(crate) stopped_ms: Option<i64>,
    pub(crate) version: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) forgotten: bool,
    pub(crate) dir: PathBuf,
}

impl State {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            clusters: BTreeSet::from(["default".to_owned()]),
            images: BTreeMap::new(),
            any_image: None,
            definitions: BTreeMap::new(),
            tasks: Vec::new(),
            tokens: HashMap::new(),
            events: Events::default(),
            visibility_delay_ms: 0,
            vanish_ms: VANISH_MS,
            offset_ms: 0,
            placement: None,
            held: None,
            dir: tempfile::Builder::new().prefix("pangolin-ecs-fake-").tempdir()?,
        })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX) + self.offset_ms
    }

    pub(crate) fn task_mut(&mut self, arn: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.arn == arn)
    }

    /// Tasks that a read of this cluster shows now.
    pub(crate) fn visible(&self, cluster: &str) -> impl Iterator<Item = &Task> {
        let now = self.now_ms();
        self.tasks.iter().filter(move |task| {
            task.cluster == cluster
                && !task.forgotten
                && now >= task.created_ms + self.visibility_delay_ms
                && task.stopped_ms.is_none_or(|at| now < at + self.vanish_ms)
        })
    }

    /// Changes a task and rings the bell.
    pub(crate) fn change(&mut self, arn: &str, act: impl FnOnce(&mut Task, i64)) {
        let now = self.now_ms();
        let Some(task) = self.task_mut(arn) else { return };
        act(task, now);
        task.version += 1;
        let (json, last) = (task.json(), task.last_status == "STOPPED");
        self.events.emit(&json, now, last);
    }
}

impl Task {
    pub(crate) fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn container(&self) -> &Value {
        &self.definition["containerDefinitions"][0]
    }

    /// As DescribeTasks and events show it.
    pub(crate) fn json(&self) -> Value {
        let seconds = |ms: i64| json!(ms as f64 / 1_000.0);
        let mut container = json!({
            "containerArn": format!("{}/container", self.arn),
            "taskArn": self.arn,
            "name": self.container()["name"],
            "image": self.container()["image"],
            "lastStatus": self.last_status,
        });
        if let Some(code) = self.exit_code {
            container["exitCode"] = json!(code);
        }
        let mut task = json!({
            "taskArn": self.arn,
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{}", self.cluster),
            "taskDefinitionArn": self.definition["taskDefinitionArn"],
            "lastStatus": self.last_status,
            "desiredStatus": self.desired_status,
            "cpu": self.definition["cpu"],
            "memory": self.definition["memory"],
            "containers": [container],
            "startedBy": self.request["startedBy"],
            "overrides": self.request["overrides"],
            "version": self.version,
            "createdAt": seconds(self.created_ms),
            "launchType": "FARGATE",
        });
        for (name, value) in [("startedAt", self.started_ms), ("stoppedAt", self.stopped_ms)] {
            if let Some(ms) = value {
                task[name] = seconds(ms);
            }
        }
        if let Some(code) = self.stop_code {
            task["stopCode"] = json!(code);
        }
        if let Some(reason) = &self.stopped_reason {
            task["stoppedReason"] = json!(reason);
        }
        task
    }

    pub(crate) fn overrides(&self) -> Vec<(String, String)> {
        let list = self.request["overrides"]["containerOverrides"][0]["environment"].as_array();
        pairs(list.map_or(&[], Vec::as_slice))
    }

    pub(crate) fn view(&self) -> TaskView {
        TaskView {
            arn: self.arn.clone(),
            started_by: self.request["startedBy"].as_str().unwrap_or_default().to_owned(),
            last_status: self.last_status.to_owned(),
            stop_code: self.stop_code.map(str::to_owned),
            exit_code: self.exit_code,
            dir: self.dir.clone(),
            overrides: self.overrides(),
            pid: self.pid,
        }
    }
}

/// Name and value of each entry of an `environment`.
pub(crate) fn pairs(list: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.iter().map(|pair| (text(&pair["name"]), text(&pair["value"]))).collect()
}
