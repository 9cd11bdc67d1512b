//! The scripted worker of the backend conformance suite (`pangolin_ports::backend_conformance`). Builds as a static
//! binary for the musl target so that it runs in any container. Not part of the product.

use std::{
    env, fs,
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::signal::{SigSet, Signal},
    unistd::setsid,
};
use serde_json::{Value, json};

const BEAT: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => play(),
        ["__beat", hops, ref rest @ ..] => beat(hops, rest),
        // The answer of a worker that can sandbox, as the test says in its environment file.
        ["probe", ..] => probe(),
        _ => Err(io::Error::other(format!("unknown arguments {arguments:?}"))),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "conformance worker: {error}");
            ExitCode::from(99)
        }
    }
}

/// Prints `<program>.probe` if there is such a file.
fn probe() -> io::Result<u8> {
    let mut path = env::current_exe()?.into_os_string();
    path.push(".probe");
    io::stdout().write_all(&fs::read(path)?)?;
    Ok(0)
}

fn directory(name: &str) -> io::Result<PathBuf> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{name} is not set")))
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

fn play() -> io::Result<u8> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block()?;
    let envelope = directory("PANGOLIN_ENVELOPE_DIR")?;
    let workspace = directory("PANGOLIN_WORKSPACE_DIR")?;
    let result = directory("PANGOLIN_RESULT_DIR")?;
    let log = result.join("starts");
    append(&log, &format!("start {}\n", std::process::id()))?;
    let script: Vec<Value> = serde_json::from_slice(&fs::read(envelope.join("script.json"))?)?;
    for step in script {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| step[key].as_u64().unwrap_or_default();
        match text("do").as_str() {
            "exit" => return u8::try_from(number("code")).map_err(io::Error::other),
            "await-term" => {
                term.wait()?;
                append(&log, "term\n")?;
            }
            "hang" => loop {
                sleep(Duration::from_secs(3600));
            },
            "spawn" => spawn(&text("escape"), &workspace)?,
            "print" => print(&text("stream"), &text("line"), number("times"))?,
            // More memory than it may have; touched, so that it is really there.
            "eat" => {
                let bytes = usize::try_from(number("bytes")).map_err(io::Error::other)?;
                std::hint::black_box(vec![1_u8; bytes]);
            }
            "await-file" => await_file(&workspace.join(text("name"))),
            "inspect" => fs::write(result.join("inspect.json"), inspect(&step, &envelope, &workspace)?)?,
            other => return Err(io::Error::other(format!("unknown step {other:?}"))),
        }
    }
    Ok(0)
}

fn await_file(path: &Path) {
    while !path.exists() {
        sleep(Duration::from_millis(1));
    }
}

fn print(stream: &str, line: &str, times: u64) -> io::Result<()> {
    let mut out: Box<dyn Write> = match stream {
        "stderr" => Box::new(io::BufWriter::new(io::stderr())),
        _ => Box::new(io::BufWriter::new(io::stdout())),
    };
    for _ in 0..times {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn spawn(escape: &str, workspace: &Path) -> io::Result<()> {
    // How many generations are born and die, and whether each leads a session of its own.
    let hops = match escape {
        "plain" => "",
        "setsid" => "s",
        "orphan" => "so",
        "orphan-of-orphan" => "soso",
        other => return Err(io::Error::other(format!("unknown escape {other:?}"))),
    };
    let file = workspace.join(format!("beat-{escape}"));
    child(hops, &file)?;
    await_file(&file);
    Ok(())
}

fn child(hops: &str, file: &Path) -> io::Result<()> {
    let program = env::current_exe()?;
    let mut command = Command::new(program);
    command.args(["__beat", hops]).arg(file).stdin(Stdio::null());
    // Keeps stdout and stderr, as careless daemons do.
    command.spawn().map(drop)
}

/// Consumes one letter per generation: `s` leads a new session, `o` starts a child and ends.
fn beat(hops: &str, rest: &[&str]) -> io::Result<u8> {
    let file = Path::new(rest.first().ok_or_else(|| io::Error::other("no file"))?);
    let mut hops = hops.chars();
    loop {
        match hops.next() {
            Some('s') => drop(setsid()?),
            Some('o') => {
                child(hops.as_str(), file)?;
                return Ok(0);
            }
            _ => break,
        }
    }
    loop {
        append(file, ".")?;
        sleep(BEAT);
    }
}

fn inspect(step: &Value, envelope: &Path, workspace: &Path) -> io::Result<String> {
    let writable = |dir: &Path| fs::write(dir.join(".probe"), b"").is_ok();
    let names: Vec<String> = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    let paths = step["paths"].as_array().cloned().unwrap_or_default();
    let existing: Vec<Value> =
        paths.into_iter().filter(|path| path.as_str().is_some_and(|path| Path::new(path).exists())).collect();
    let status = fs::read_to_string("/proc/self/status")?;
    let status = |key: &str| -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let interfaces: Vec<&str> =
        interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    let report = json!({
        "env": names,
        "key": env::var("PANGOLIN_RESULT_KEY").unwrap_or_default(),
        "existing": existing,
        "envelope_writable": writable(envelope),
        "workspace_writable": writable(workspace),
        "root_writable": writable(Path::new("/")),
        "uid": nix::unistd::getuid().as_raw(),
        "capabilities": status("CapEff"),
        "no_new_privs": status("NoNewPrivs"),
        "seccomp": status("Seccomp"),
        "interfaces": interfaces,
        "mounts": fs::read_to_string("/proc/self/mounts").unwrap_or_default(),
    });
    Ok(report.to_string())
}
