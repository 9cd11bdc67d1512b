//! What a worker leaves behind, without a worker: claim, archive and completion of a successful dispatch whose agent said a line
//! and changed nothing. Nothing is fetched and nothing runs.

use std::time::{SystemTime, UNIX_EPOCH};

use pangolin_core::ids::Digest;
use pangolin_envelope::{
    result::{
        AGENT_STDERR_FILE, AGENT_STDOUT_FILE, AgentRun, BlockOutcome, Ending, RESULT_FILE, RESULT_VERSION,
        SignedResult, WorkerResult,
    },
    start::{Claim, Completion, EndedBy, START_VERSION, SignedRequest, StartDocument},
};
use pangolin_s3_fake::S3Fake;

use crate::DATA;

const NONCE: &str = "a stand-in";
const SAID: &[u8] = b"done\n";

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Key of the object behind a URL with the bucket in its path.
fn key(url: &str) -> Result<String, String> {
    let path = url.split('?').next().unwrap_or_default();
    let (_, path) = path.split_once("://").ok_or_else(|| format!("{path:?} is no URL"))?;
    let key =
        path.split_once(&format!("/{DATA}/")).ok_or_else(|| format!("{path:?} is in another bucket"))?.1;
    Ok(key.replace("%3A", ":"))
}

/// Leaves what the worker of this start document leaves.
pub(super) fn work(s3: &S3Fake, start: &str) -> Result<(), String> {
    let start = key(start)?;
    let document = s3.versions(DATA, &start).pop().and_then(|version| version.bytes);
    let document = document.ok_or_else(|| format!("there is no start document {start}"))?;
    let document: StartDocument =
        serde_json::from_slice(&document).map_err(|error| format!("{start}: {error}"))?;
    let archive = archive(&document).map_err(|error| format!("packing the result of {start}: {error}"))?;
    let leave = |at: &SignedRequest, bytes: &[u8]| -> Result<(), String> {
        s3.plant(DATA, &key(&at.url)?, bytes);
        Ok(())
    };
    let text = |error: serde_json::Error| error.to_string();
    let (dispatch, nonce) = (document.dispatch.clone(), NONCE.to_owned());
    let claim = Claim { schema_version: START_VERSION, dispatch, nonce, at: now_ms() };
    leave(&document.claim, &serde_json::to_vec(&claim).map_err(text)?)?;
    leave(&document.archive, &archive)?;
    let completion = Completion {
        schema_version: START_VERSION,
        dispatch: document.dispatch.clone(),
        nonce: NONCE.to_owned(),
        digest: Digest::of(&archive),
        size: archive.len() as u64,
        exit: 0,
        ended_by: EndedBy::Itself,
        at: now_ms(),
    };
    leave(&document.completion, &serde_json::to_vec(&completion).map_err(text)?)
}

fn archive(document: &StartDocument) -> Result<Vec<u8>, String> {
    let result = WorkerResult {
        v: RESULT_VERSION,
        dispatch: document.dispatch.clone(),
        ending: Ending::Finished {},
        agent: Some(AgentRun {
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            truncated: false,
            stdout: Digest::of(SAID),
            stderr: Digest::of(b""),
            duration_ms: 1,
        }),
        blocks: vec![BlockOutcome {
            kind: "agent".to_owned(),
            ordinal: 0,
            ok: true,
            exit_code: Some(0),
            duration_ms: 1,
            plugin: None,
        }],
        verify: None,
        verify_report: None,
        capture: None,
        outputs: Vec::new(),
        not_captured: Vec::new(),
        needs_input: None,
        mechanisms: Vec::new(),
        started_at: now_ms(),
        finished_at: now_ms(),
    };
    let signed = SignedResult::sign(&result, &document.result_key).map_err(|error| error.to_string())?;
    let signed = serde_json::to_vec(&signed).map_err(|error| error.to_string())?;
    let mut tar = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 5] = [
        (AGENT_STDERR_FILE, b""),
        (AGENT_STDOUT_FILE, SAID),
        (RESULT_FILE, &signed),
        ("events.jsonl", b""),
        ("worker.stderr", b""),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).map_err(|error| error.to_string())?;
    }
    tar.into_inner().map_err(|error| error.to_string())
}
