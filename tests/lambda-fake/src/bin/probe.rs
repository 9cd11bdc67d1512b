//! A function that does what its event says, also against the protocol: it shows what the fake refuses and measures. Its
//! client is a few lines of plain sockets, because a proper runtime could not misbehave.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    time::Duration,
};

use nix::time::ClockId;
use serde_json::{Value, json};

struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

fn call(method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Response> {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&api)?;
    let length = body.len();
    write!(
        stream,
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok(Response { status, headers, body: body.to_owned() })
}

fn answer(id: &str, body: &[u8]) -> io::Result<u16> {
    Ok(call("POST", &format!("invocation/{id}/response"), "", body)?.status)
}

/// What it says to a batch of messages: those with `bad` fail. All fail (`null`) when one says `all`.
fn batch(records: &[Value]) -> Value {
    let body = |record: &Value| record["body"].as_str().unwrap_or_default().to_owned();
    if records.iter().any(|record| body(record) == "all") {
        return Value::Null;
    }
    let failed = records.iter().filter(|record| body(record).contains("bad"));
    let failed: Vec<_> = failed.map(|record| json!({ "itemIdentifier": record["messageId"] })).collect();
    json!({ "batchItemFailures": failed })
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    match env::var("PROBE_INIT").as_deref() {
        Ok("error") => {
            let header = "lambda-runtime-function-error-type: Probe.Init\r\n";
            call("POST", "init/error", header, br#"{"errorMessage":"not today"}"#)?;
            std::process::exit(1)
        }
        Ok("exit") => std::process::exit(7),
        _ => {}
    }
    // Touched pages and burnt time stay in the process; both are to be seen by the measurement.
    let mut memory: Vec<Vec<u8>> = Vec::new();
    loop {
        let next = call("GET", "invocation/next", "", b"")?;
        let header = |name: &str| next.headers.get(name).cloned().unwrap_or_default();
        let id = header("lambda-runtime-aws-request-id");
        let event: Value = serde_json::from_str(&next.body).unwrap_or_default();
        if let Some(records) = event["Records"].as_array() {
            for key in records.iter().filter_map(|record| record["s3"]["object"]["key"].as_str()) {
                writeln!(io::stdout(), "key {key}")?;
            }
            let answered = batch(records);
            writeln!(io::stdout(), "batch of {}: {answered}", records.len())?;
            if answered.is_null() {
                call("POST", &format!("invocation/{id}/error"), "", br#"{"errorType":"Probe.Batch"}"#)?;
            } else {
                answer(&id, answered.to_string().as_bytes())?;
            }
            continue;
        }
        match event["do"].as_str().unwrap_or_default() {
            "error" => {
                let body = br#"{"errorType":"Probe.Error","errorMessage":"as told"}"#;
                call("POST", &format!("invocation/{id}/error"), "", body)?;
                continue;
            }
            "twice" => {
                answer(&id, b"1")?;
                let status = answer(&id, b"2")?;
                writeln!(io::stdout(), "second answer: {status}")?;
                continue;
            }
            "stranger" => {
                let status = answer("00000000-0000-4000-8000-ffffffffffff", b"1")?;
                answer(&id, status.to_string().as_bytes())?;
                continue;
            }
            "early" => {
                let status = call("GET", "invocation/next", "", b"")?.status;
                answer(&id, status.to_string().as_bytes())?;
                continue;
            }
            "nowhere" => {
                let status = call("POST", "invocation/nowhere", "", b"")?.status;
                answer(&id, status.to_string().as_bytes())?;
                continue;
            }
            "large" => {
                let bytes = event["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                let mut body = vec![b' '; bytes.unwrap_or_default().saturating_sub(1)];
                body.push(b'1');
                let status = answer(&id, &body)?;
                writeln!(io::stdout(), "large answer: {status}")?;
                continue;
            }
            "exit" => std::process::exit(3),
            "hang" => {
                // In a group of its own, as a careless program would.
                let child = Command::new("sleep").arg("1000").process_group(0).spawn()?;
                writeln!(io::stdout(), "child {}", child.id())?;
                loop {
                    std::thread::park();
                }
            }
            "work" => {
                // Processor time and not time on the wall: a busy machine must not make less work of it.
                let used = || ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map(Duration::from);
                let begin = used()?;
                let ms = Duration::from_millis(event["ms"].as_u64().unwrap_or_default());
                let mib = event["mib"].as_u64().and_then(|mib| usize::try_from(mib).ok()).unwrap_or_default();
                memory.push(vec![1; mib * 1_024 * 1_024]);
                let mut sum = 0_u64;
                while used()?.saturating_sub(begin) < ms {
                    sum = sum.wrapping_add(memory.iter().map(|part| u64::from(part.len() > 7)).sum());
                }
                std::hint::black_box(sum);
                memory.clear();
            }
            _ => {}
        }
        let body = json!({
            "pid": std::process::id(),
            "event": event,
            "env": env::vars().collect::<BTreeMap<_, _>>(),
            "headers": next.headers,
            "cwd": env::current_dir()?.display().to_string(),
        });
        answer(&id, body.to_string().as_bytes())?;
    }
}
