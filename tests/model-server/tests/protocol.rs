//! The server as a client on a socket sees it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use pangolin_model_server::{OUTPUT_TOKENS, Script, Server, edit_marker, serve};
use serde_json::{Value, json};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Status line and body of one request.
fn post(server: &Server, body: &Value) -> (String, String) {
    let mut stream = connect(server);
    let body = body.to_string();
    write!(
        stream,
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nX-Api-Key: k\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn request(content: Value, stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "tools": [{"name": "Bash"}], "messages": [{"role": "user", "content": content}]})
}

#[test]
fn an_edit_is_one_command_and_then_the_end() {
    let server = serve(Script::Edit).unwrap();
    let prompt = format!("Please. {}", edit_marker("src/it's.txt", "a b"));
    let (status, body) = post(&server, &request(json!(prompt), false));
    assert_eq!(status, "HTTP/1.1 200 OK");
    let reply: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(reply["stop_reason"], "tool_use");
    assert_eq!(reply["content"][0]["input"]["command"], r"printf '%s\n' 'a b' >> 'src/it'\''s.txt'");
    assert_eq!(reply["usage"]["output_tokens"], OUTPUT_TOKENS);

    let result = json!([{"type": "tool_result", "tool_use_id": "toolu_scripted_0", "content": "ok"}]);
    let (_, body) = post(&server, &request(result, true));
    let events: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(events[2]["delta"]["text"], "Done.");
    assert_eq!(events[4]["delta"]["stop_reason"], "end_turn");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].line.as_str(), seen[0].api_key.as_deref()),
        ("POST /v1/messages?beta=true", Some("k"))
    );
}

#[test]
fn errors_have_their_status_and_body() {
    for (status, kind) in [(401, "authentication_error"), (529, "overloaded_error"), (500, "api_error")] {
        let server = serve(Script::Status(status)).unwrap();
        let (line, body) = post(&server, &request(json!("x"), true));
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error"]["type"], kind);
    }
}

#[test]
fn a_stalled_answer_begins_and_ends_with_the_client() {
    let server = serve(Script::Stall).unwrap();
    let mut stream = connect(&server);
    let body = request(json!("x"), true).to_string();
    write!(stream, "POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("message_start") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("message_stop"), "{rest}");
}

#[test]
fn a_stall_after_the_edit_comes_with_the_result_of_the_edit() {
    let server = serve(Script::EditStall).unwrap();
    let (_, body) = post(&server, &request(json!(edit_marker("a.txt", "b")), true));
    assert!(body.contains(">> 'a.txt'") && body.contains("message_stop"), "{body}");

    let result = json!([{"type": "tool_result", "tool_use_id": "toolu_scripted_0", "content": "ok"}]);
    let body = request(result, true).to_string();
    let mut stream = connect(&server);
    write!(stream, "POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut start = [0; 512];
    let mut seen = String::new();
    while !seen.contains("message_start") {
        let read = stream.read(&mut start).unwrap();
        assert!(read > 0, "closed after {seen}");
        seen.push_str(&String::from_utf8_lossy(&start[..read]));
    }
    // Only the client ends it.
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_string(&mut seen).unwrap();
    assert!(!seen.contains("content_block") && !seen.contains("message_stop"), "{seen}");
}

#[test]
fn chunked_bodies_are_read() {
    let server = serve(Script::Edit).unwrap();
    let mut stream = connect(&server);
    let body = request(json!("x"), false).to_string();
    let (head, tail) = body.split_at(10);
    write!(
        stream,
        "POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n\r\n",
        head.len(),
        tail.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(">> 'hello.txt'"), "{answer}");
}

#[test]
fn names_of_scripts() {
    assert_eq!("tool-loop".parse(), Ok(Script::ToolLoop));
    assert_eq!("529".parse(), Ok(Script::Status(529)));
    for bad in ["", "200", "edit "] {
        assert!(bad.parse::<Script>().unwrap_err().to_string().contains("no script"), "{bad}");
    }
}
