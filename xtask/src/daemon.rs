//! A background program that never outlives this one: it is stopped by its own pid with SIGTERM.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// How long a program may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Starts "$@" again whenever it ends while `$PIDFILE.restart` exists, writes its pid to `$PIDFILE`, and sends it
/// SIGTERM when stdin closes. The kernel closes the pipe however this xtask ends, so Ctrl-C, a panic and even SIGKILL
/// stop the daemon too. The shell is in a process group of its own: a Ctrl-C in the terminal does not reach it, it sees
/// the closed pipe instead.
const GUARD: &str = r#"
exec 3<&0 </dev/null
(
    read -r line <&3
    : >"$PIDFILE.stop"
    kill -TERM "$(cat "$PIDFILE")"
) 2>/dev/null &
guard=$!
while :; do
    "$@" 3<&- &
    daemon=$!
    echo "$daemon" >"$PIDFILE.new"
    mv "$PIDFILE.new" "$PIDFILE"
    [ ! -e "$PIDFILE.stop" ] || kill -TERM "$daemon" 2>/dev/null
    wait "$daemon"
    status=$?
    [ -e "$PIDFILE.restart" ] && [ ! -e "$PIDFILE.stop" ] || break
    rm -f "$PIDFILE.restart"
done
kill "$guard" 2>/dev/null
exit "$status"
"#;

/// A running background program.
pub(crate) struct Daemon {
    name: String,
    shell: Child,
    stdin: Option<ChildStdin>,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in `<dir>/<name>.log` and its pid in `<dir>/<name>.pid`.
    pub(crate) fn start(name: &str, dir: &Path, command: &Command) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let log = dir.join(format!("{name}.log"));
        let pid_file = dir.join(format!("{name}.pid"));
        for stale in [pid_file.clone(), with_suffix(&pid_file, ".stop"), with_suffix(&pid_file, ".restart")] {
            match fs::remove_file(&stale) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", stale.display()));
                }
                _ => {}
            }
        }
        let out = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        eprintln!("xtask: {} &   (log: {})", process::describe(command), log.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", GUARD, "sh"]).arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            shell.current_dir(dir);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut shell = shell
            .env("PIDFILE", &pid_file)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().context("cannot duplicate the log handle")?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = shell.stdin.take();
        Ok(Self { name: name.to_owned(), shell, stdin, pid_file, log })
    }

    /// Waits until `ready` says yes. Fails at once, with the end of the log, when the program ends before that.
    pub(crate) fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut ended = None;
        let shell = &mut self.shell;
        let is_ready = process::wait_until(limit, || {
            ended = shell.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        if let Some(status) = ended {
            bail!("{} ended at once: {status}\n{}", self.name, self.log_tail());
        }
        if !is_ready {
            bail!("{} was not ready after {} s\n{}", self.name, limit.as_secs(), self.log_tail());
        }
        Ok(())
    }

    /// Waits until the program has said `part`.
    pub(crate) fn wait_said(&mut self, limit: Duration, part: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait_ready(limit, || fs::read_to_string(&log).is_ok_and(|text| text.contains(part)))
    }

    /// Fails when the program is not running any more.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.shell.try_wait().context("cannot ask for the daemon")? {
            None => Ok(()),
            Some(status) => bail!("{} ended too early: {status}\n{}", self.name, self.log_tail()),
        }
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    /// The file with its process id.
    pub(crate) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// A shell command that restarts the program and returns when the old process is gone and a new one was started.
    pub(crate) fn restart_script(&self) -> String {
        let file = self.pid_file.display();
        format!(
            "set -eu; old=$(cat '{file}'); : >'{file}.restart'; kill -TERM \"$old\"; tries=0; \
             while [ \"$(cat '{file}')\" = \"$old\" ]; do tries=$((tries+1)); [ $tries -lt 600 ]; sleep 0.1; done"
        )
    }

    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("last lines of {}:\n{tail}", self.log.display())
    }

    /// Stops it with SIGTERM and waits for its end. An end by itself with success counts too.
    pub(crate) fn stop(mut self) -> Result<()> {
        match self.end()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} did not end cleanly: {status}\n{}", self.name, self.log_tail()),
            None => bail!(
                "{} still runs {} s after SIGTERM (pid {:?})",
                self.name,
                STOP_LIMIT.as_secs(),
                self.pid()
            ),
        }
    }

    fn end(&mut self) -> Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        process::wait_within(&mut self.shell, STOP_LIMIT)
    }
}

impl Drop for Daemon {
    /// On the way out of an error the daemon is stopped as well; the error that is on its way says what went wrong.
    fn drop(&mut self) {
        if self.stdin.is_some() && !matches!(self.end(), Ok(Some(_))) {
            eprintln!("xtask: {} still runs (pid {:?})", self.name, self.pid());
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A directory of this test below cargo's target directory.
    fn dir(name: &str) -> PathBuf {
        let program = std::env::current_exe().unwrap();
        let dir = program.ancestors().nth(2).unwrap().join("tmp").join("xtask-daemon").join(name);
        fs::remove_dir_all(&dir).ok();
        dir
    }

    /// A process that is gone or only waits to be reaped.
    fn is_gone(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    fn started(name: &str, script: &str) -> (Daemon, u32) {
        let command = process::command("sh", ["-c", script]);
        let mut daemon = Daemon::start("test", &dir(name), &command).unwrap();
        let file = daemon.pid_file().to_owned();
        let log = daemon.log.clone();
        daemon
            .wait_ready(LIMIT, || {
                file.is_file() && fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))
            })
            .unwrap();
        let pid = daemon.pid().unwrap();
        (daemon, pid)
    }

    #[test]
    fn stop_sends_sigterm_and_reports_a_clean_end() {
        let (daemon, pid) =
            started("clean", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
        let log = daemon.log.clone();
        daemon.stop().unwrap();
        assert!(is_gone(pid));
        assert!(fs::read_to_string(log).unwrap().contains("bye"));
    }

    #[test]
    fn stop_reports_an_end_that_is_not_clean() {
        let (daemon, _) = started("dirty", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done");
        let error = daemon.stop().unwrap_err().to_string();
        assert!(error.contains("did not end cleanly"), "{error}");
    }

    #[test]
    fn dropping_it_stops_it_too() {
        let (daemon, pid) = started("drop", "echo up; exec sleep 1000");
        drop(daemon);
        assert!(is_gone(pid));
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_with_its_log() {
        let command = process::command("sh", ["-c", "echo no luck; exit 7"]);
        let mut daemon = Daemon::start("test", &dir("early"), &command).unwrap();
        let error = daemon.wait_ready(LIMIT, || false).unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains('7'), "{error}");
    }

    #[test]
    fn the_restart_script_replaces_the_process() {
        let (daemon, old) = started("restart", "echo up; exec sleep 1000");
        assert!(process::succeeds(&mut process::command("sh", ["-c", &daemon.restart_script()])));
        let new = daemon.pid().unwrap();
        assert_ne!(old, new);
        assert!(is_gone(old) && !is_gone(new));
        drop(daemon);
        assert!(is_gone(new));
    }
}
