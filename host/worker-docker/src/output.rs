//! Copies an ended container's output into the result directory, bounded.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    pin::{Pin, pin},
};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    query_parameters::{AttachContainerOptionsBuilder, LogsOptionsBuilder},
};
use futures_util::{Stream, StreamExt};
use pangolin_ports::worker_output::{CUT_KIND, EVENTS_FILE, OutputBound, STDERR_FILE, StreamKind};

use crate::container::{Memo, log_file_bytes};

/// Bytes around each entry of the engine's JSON log: `{"log":"…","stream":"stdout","time":"…"}`.
const ENTRY_OVERHEAD: u64 = 80;

/// The kept part of both streams.
#[derive(Debug)]
pub(crate) struct Gathered {
    events: Vec<u8>,
    text: Vec<u8>,
}

/// Output as it is attached to before the start: complete, whatever the engine's log rotates away.
pub(crate) type Attached = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Attaches to a created container.
pub(crate) async fn attach(docker: &Docker, id: &str) -> Result<Attached, Error> {
    let options = AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
    Ok(docker.attach_container(id, Some(options)).await?.output)
}

/// Reads attached output to its end.
pub(crate) async fn gather_attached(attached: Attached, memo: &Memo) -> Result<Gathered, Error> {
    gather(attached, memo, u64::MAX).await
}

/// Reads the engine's log of a container that ended.
pub(crate) async fn gather_log(docker: &Docker, id: &str, memo: &Memo) -> Result<Gathered, Error> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    gather(docker.logs(id, Some(options)), memo, log_file_bytes(&memo.limits)).await
}

/// `rotation`: from how many bytes of log on older ones may have been dropped.
async fn gather(
    log: impl Stream<Item = Result<LogOutput, Error>>,
    memo: &Memo,
    rotation: u64,
) -> Result<Gathered, Error> {
    let limit = memo.limits.output_bytes;
    let mut gathered = Gathered { events: Vec::new(), text: Vec::new() };
    let mut events_bound = OutputBound::new(StreamKind::Events, limit);
    let mut text_bound = OutputBound::new(StreamKind::Text, limit);
    let mut log = pin!(log);
    let mut raw = 0_u64;
    while let Some(entry) = log.next().await {
        let entry = entry?;
        let bytes = entry.as_ref();
        let escaped =
            bytes.iter().filter(|byte| byte.is_ascii_control() || b"\"\\<>&".contains(byte)).count();
        raw += ENTRY_OVERHEAD + (bytes.len() + 5 * escaped) as u64;
        match entry {
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                events_bound.append_to(&mut gathered.events, &message);
            }
            LogOutput::StdErr { message } => text_bound.append_to(&mut gathered.text, &message),
            LogOutput::StdIn { .. } => {}
        }
        if events_bound.is_cut() && text_bound.is_cut() {
            return Ok(gathered);
        }
    }
    if raw >= rotation {
        // A whole log file or more: the engine may have dropped an older one, which nothing else would show.
        if !events_bound.is_cut() {
            let marker = format!("{{\"kind\":\"{CUT_KIND}\",\"limitBytes\":{limit},\"rotated\":true}}\n");
            gathered.events.extend_from_slice(marker.as_bytes());
        }
        if !text_bound.is_cut() {
            gathered.text.extend_from_slice(b"\n[pangolin: output cut, its beginning may be missing]\n");
        }
    }
    Ok(gathered)
}

/// Writes both files. `notice` ends the stderr file.
pub(crate) async fn store(mut gathered: Gathered, memo: &Memo, notice: Option<String>) {
    if let Some(notice) = notice {
        gathered.text.extend_from_slice(format!("[pangolin: {notice}]\n").as_bytes());
    }
    let dir = memo.result_dir.clone();
    let written = tokio::task::spawn_blocking(move || {
        replace(&dir, EVENTS_FILE, &gathered.events)?;
        replace(&dir, STDERR_FILE, &gathered.text)
    });
    // The result directory belongs to the caller, who may have taken it away; the exit code must not suffer.
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(dir = %memo.result_dir.display(), %error, "cannot store worker output")
        }
        Err(error) => tracing::error!(%error, "storing worker output panicked"),
    }
}

/// Puts a file there whatever the agent, which could write this directory while it ran, has left in its place. The
/// container has ended, so nobody changes the directory meanwhile.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = dir.join(name);
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(&path)?;
    }
    let temp = dir.join(format!(".{name}-{}-{:?}", std::process::id(), std::thread::current().id()));
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // create_new follows no symlink.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(temp, path)
}
