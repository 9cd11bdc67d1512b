//! First stage of the sandbox, outside of its pid namespace: makes the namespaces and waits for their end.

use std::{
    path::Path,
    process::{Command, ExitStatus},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};

use super::{OrderFile, SELF, SandboxOrder, exec::enter_user_namespace, fail};
use crate::signals::watched;

/// Runs the stage.
pub(crate) fn run(path: &Path) -> i32 {
    let (file, order) = match OrderFile::open::<SandboxOrder>(path) {
        Ok(opened) => opened,
        Err(_) => return super::STAGE_FAILED,
    };
    match isolate(&order).and_then(|()| supervise(path)) {
        Ok(code) => code,
        Err(error) => fail(file, Vec::new(), error),
    }
}

fn isolate(order: &SandboxOrder) -> Result<(), String> {
    watched().thread_block().map_err(|errno| format!("cannot block signals: {errno}"))?;
    enter_user_namespace(0)?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if order.no_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|errno| {
        format!("cannot make mount, pid, ipc, uts, cgroup and network namespaces: {errno}; use isolation \"container\"")
    })?;
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| format!("cannot bind the sandbox to the worker: {errno}"))?;
    if getppid().as_raw() != order.parent {
        return Err("the worker is gone".to_owned());
    }
    Ok(())
}

fn supervise(path: &Path) -> Result<i32, String> {
    let mut child = Command::new(SELF)
        .arg("__init")
        .arg(path)
        .env_clear()
        .spawn()
        .map_err(|error| format!("cannot start the first process of the sandbox: {error}"))?;
    let init = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    loop {
        match watched().wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = child.try_wait().map_err(|error| format!("cannot wait: {error}"))? {
                    return Ok(code(status));
                }
            }
            Ok(_) => drop(kill(init, Signal::SIGTERM)),
            Err(_) => {}
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(9))
}
