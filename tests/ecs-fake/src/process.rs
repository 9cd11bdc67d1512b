//! The local process that stands in for a container.

use std::{collections::BTreeMap, fs, fs::File, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{Shared, lock, state::pairs};

/// Starts the process of a task, unless its image cannot be had or it was stopped meanwhile.
pub(crate) fn start(state: &Shared, arn: &str) {
    let mut held = lock(state);
    if let Some(list) = &mut held.held {
        list.push(arn.to_owned());
        held.change(arn, |task, _| task.last_status = "PENDING");
        return;
    }
    let Some(task) = held.task_mut(arn) else { return };
    if task.desired_status == "STOPPED" {
        held.change(arn, |task, now| {
            task.last_status = "STOPPED";
            task.stop_code = Some("UserInitiated");
            task.stopped_ms = Some(now);
        });
        return;
    }
    let image = task.container()["image"].as_str().unwrap_or_default().to_owned();
    let stand_in = held.images.get(&image).or(held.any_image.as_ref()).cloned();
    let problem = match stand_in {
        None => format!(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): {image}: not found"
        ),
        Some(stand_in) => match spawn(&mut held, arn, &stand_in) {
            Ok(child) => {
                drop(held);
                tokio::spawn(watch(Shared::clone(state), arn.to_owned(), child));
                return;
            }
            Err(error) => format!("ContainerRuntimeError: {}: {error}", stand_in.program.display()),
        },
    };
    held.change(arn, |task, now| {
        task.last_status = "STOPPED";
        task.desired_status = "STOPPED";
        task.stop_code = Some("TaskFailedToStart");
        task.stopped_reason = Some(problem);
        task.stopped_ms = Some(now);
    });
}

fn spawn(state: &mut crate::state::State, arn: &str, stand_in: &crate::StandIn) -> std::io::Result<Child> {
    let Some(task) = state.task_mut(arn) else { return Err(std::io::Error::other("no task")) };
    fs::create_dir_all(task.dir.join("volume"))?;
    let volume = task.dir.join("volume").display().to_string();
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &stand_in.env {
        env.insert(name.clone(), value.replace("{task}", &volume));
    }
    let own = task.container()["environment"].as_array().map_or(&[][..], Vec::as_slice);
    env.extend(pairs(own));
    env.extend(task.overrides());
    let child = Command::new(&stand_in.program)
        .env_clear()
        .envs(env)
        .current_dir(&task.dir)
        .stdin(Stdio::null())
        .stdout(File::create(task.dir.join("stdout"))?)
        .stderr(File::create(task.dir.join("stderr"))?)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id();
    state.change(arn, |task, now| {
        task.last_status = "RUNNING";
        task.started_ms = Some(now);
        task.pid = pid;
    });
    Ok(child)
}

async fn watch(state: Shared, arn: String, mut child: Child) {
    use std::os::unix::process::ExitStatusExt;
    let Ok(status) = child.wait().await else { return };
    let mut state = lock(&state);
    state.change(&arn, |task, now| {
        task.last_status = "STOPPED";
        task.stop_code.get_or_insert("EssentialContainerExited");
        task.stopped_reason.get_or_insert_with(|| "Essential container in task exited".to_owned());
        task.desired_status = "STOPPED";
        task.exit_code = Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(9)));
        task.stopped_ms = Some(now);
        task.pid = None;
    });
}

/// SIGTERM to the first process now, SIGKILL to all after the stop timeout.
pub(crate) fn stop(state: &Shared, arn: &str) {
    let (pid, seconds) = {
        let mut state = lock(state);
        let Some(task) = state.task_mut(arn) else { return };
        (task.pid, task.container()["stopTimeout"].as_u64().unwrap_or(30))
    };
    let Some(pid) = pid else { return };
    send(pid, Signal::SIGTERM);
    let (state, arn) = (Shared::clone(state), arn.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        let alive = lock(&state).task_mut(&arn).and_then(|task| task.pid) == Some(pid);
        if alive {
            kill_tree(pid);
        }
    });
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills a process and everything that descends from it, as the end of a container does.
pub(crate) fn kill_tree(pid: u32) {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        all.extend(children(parent));
    }
    for pid in all {
        send(pid, Signal::SIGKILL);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}
