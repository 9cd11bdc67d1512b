//! Replies of the messages endpoint.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    http::{self, Request},
    script::{Script, find_marker},
};

/// Tokens of input that every reply reports.
pub const INPUT_TOKENS: u64 = 1_000;
/// Tokens written to the cache that every reply reports.
pub const CACHE_WRITE_TOKENS: u64 = 300;
/// Tokens read from the cache that every reply reports.
pub const CACHE_READ_TOKENS: u64 = 50;
/// Tokens of output that every reply reports at its end.
pub const OUTPUT_TOKENS: u64 = 40;

/// Last words of a session.
const DONE: &str = "Done.";

/// One content block of a reply.
enum Block {
    Text(String),
    Bash(String),
}

/// Answers one request.
pub(crate) fn send(
    connection: &mut TcpStream,
    script: &Script,
    request: &Request,
    body: &Value,
) -> io::Result<()> {
    let path = request.target.split('?').next().unwrap_or_default();
    let json_header = "Content-Type: application/json\r\nrequest-id: req_scripted\r\n";
    if request.method != "POST" || !path.starts_with("/v1/messages") {
        // Clients probe the address; that it answers is all they want to know.
        let status = if request.method == "HEAD" || path == "/" { "200 OK" } else { "404 Not Found" };
        return http::respond(connection, status, json_header, b"{}");
    }
    if let Script::Status(status) = script {
        let (status, kind, message) = match status {
            401 => ("401 Unauthorized".into(), "authentication_error", "invalid x-api-key"),
            403 => ("403 Forbidden".into(), "permission_error", "the key may not do this"),
            429 => ("429 Too Many Requests".into(), "rate_limit_error", "too many requests"),
            529 => ("529 Overloaded".into(), "overloaded_error", "Overloaded"),
            other => (format!("{other} Scripted"), "api_error", "Internal server error"),
        };
        let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"});
        return http::respond(connection, &status, json_header, body.to_string().as_bytes());
    }
    if path.ends_with("/count_tokens") {
        let body = json!({"input_tokens": INPUT_TOKENS});
        return http::respond(connection, "200 OK", json_header, body.to_string().as_bytes());
    }
    let turn = results(body);
    let (block, stop) = decide(script, body, turn);
    let model = body["model"].as_str().unwrap_or("scripted");
    let id = format!("msg_scripted_{turn}");
    if body["stream"].as_bool() == Some(true) {
        http::begin_events(connection)?;
        stream(connection, script, &id, model, &block, stop)
    } else {
        let reply = json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": [content(&block, turn)],
            "stop_reason": stop, "stop_sequence": null, "usage": usage(OUTPUT_TOKENS),
        });
        http::respond(connection, "200 OK", json_header, reply.to_string().as_bytes())
    }
}

/// How many tool results the conversation holds.
fn results(body: &Value) -> usize {
    blocks(body).filter(|block| block["type"] == "tool_result").count()
}

fn blocks(body: &Value) -> impl Iterator<Item = &Value> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter_map(|message| message["content"].as_array()).flatten()
}

/// All text the user wrote.
fn prompt(body: &Value) -> String {
    let mut text = String::new();
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for content in
        messages.iter().filter(|message| message["role"] == "user").map(|message| &message["content"])
    {
        text.push_str(content.as_str().unwrap_or_default());
        for block in content.as_array().map(Vec::as_slice).unwrap_or_default() {
            text.push_str(block["text"].as_str().unwrap_or_default());
            text.push('\n');
        }
    }
    text
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn decide(script: &Script, body: &Value, turn: usize) -> (Block, &'static str) {
    let has_shell =
        body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash"));
    match script {
        // Side questions of the client (titles, summaries) come without tools.
        Script::Edit | Script::EditStall | Script::ToolLoop if !has_shell => {
            (Block::Text("Scripted.".into()), "end_turn")
        }
        Script::Edit | Script::EditStall if turn == 0 => {
            let prompt = prompt(body);
            let (path, text) = find_marker(&prompt).unwrap_or(("hello.txt", "hi"));
            (Block::Bash(format!("printf '%s\\n' {} >> {}", quote(text), quote(path))), "tool_use")
        }
        Script::ToolLoop => (Block::Bash(format!("echo turn {turn}")), "tool_use"),
        Script::Refuse => (Block::Text("I will not do this.".into()), "refusal"),
        Script::Edit | Script::EditStall | Script::Stall | Script::Status(_) => {
            (Block::Text(DONE.into()), "end_turn")
        }
    }
}

fn usage(output: u64) -> Value {
    json!({
        "input_tokens": INPUT_TOKENS, "cache_creation_input_tokens": CACHE_WRITE_TOKENS,
        "cache_read_input_tokens": CACHE_READ_TOKENS, "output_tokens": output,
    })
}

fn content(block: &Block, turn: usize) -> Value {
    match block {
        Block::Text(text) => json!({"type": "text", "text": text}),
        Block::Bash(command) => json!({
            "type": "tool_use", "id": format!("toolu_scripted_{turn}"), "name": "Bash",
            "input": {"command": command, "description": "scripted"},
        }),
    }
}

fn stream(
    connection: &mut TcpStream,
    script: &Script,
    id: &str,
    model: &str,
    block: &Block,
    stop: &str,
) -> io::Result<()> {
    let mut event = |data: Value| -> io::Result<()> {
        let kind = data["type"].as_str().unwrap_or_default().to_owned();
        write!(connection, "event: {kind}\ndata: {data}\n\n")?;
        connection.flush()
    };
    event(json!({"type": "message_start", "message": {
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(1),
    }}))?;
    let stalls = match script {
        Script::Stall => true,
        Script::EditStall => matches!(block, Block::Text(text) if text == DONE),
        _ => false,
    };
    if stalls {
        return wait_for_hangup(connection);
    }
    let (start, delta) = match block {
        Block::Text(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}))
        }
        Block::Bash(_) => {
            let mut start =
                content(block, id.rsplit('_').next().and_then(|turn| turn.parse().ok()).unwrap_or(0));
            let input = start["input"].take().to_string();
            start["input"] = json!({});
            (start, json!({"type": "input_json_delta", "partial_json": input}))
        }
    };
    event(json!({"type": "content_block_start", "index": 0, "content_block": start}))?;
    event(json!({"type": "content_block_delta", "index": 0, "delta": delta}))?;
    event(json!({"type": "content_block_stop", "index": 0}))?;
    event(json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
        "usage": {"output_tokens": OUTPUT_TOKENS}}))?;
    event(json!({"type": "message_stop"}))
}

/// Returns when the client closed the connection.
fn wait_for_hangup(connection: &mut TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(3_600)))?;
    let mut scratch = [0; 1_024];
    while connection.read(&mut scratch)? > 0 {}
    Ok(())
}
