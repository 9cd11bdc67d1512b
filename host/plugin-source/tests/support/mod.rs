//! A small HTTP server on loopback that answers from a table.
#![expect(clippy::unwrap_used, reason = "a test server that cannot work stops the test")]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Status, headers, body; a body of `None` promises bytes that never end.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

pub(crate) fn ok(body: &[u8]) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: Some(body.to_vec()) }
}

pub(crate) fn redirect(to: &str) -> Answer {
    Answer { status: 302, headers: vec![("location".into(), to.into())], body: Some(Vec::new()) }
}

type Table = HashMap<String, Answer>;

/// Listens until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    table: Arc<Mutex<Table>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), table: Arc::default(), seen: Arc::default() };
        let (table, seen) = (server.table.clone(), server.seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (table, seen) = (table.clone(), seen.clone());
                thread::spawn(move || serve(stream, &table, &seen));
            }
        });
        server
    }

    pub(crate) fn on(&self, path: &str, answer: Answer) -> &Self {
        self.table.lock().unwrap().insert(path.to_owned(), answer);
        self
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `path authorization` of every request so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, table: &Mutex<Table>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or("").to_owned();
    let mut authorization = String::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
            break;
        }
        if let Some(value) = header.strip_prefix("authorization: ") {
            authorization = value.trim().to_owned();
        }
    }
    seen.lock().unwrap().push(format!("{path} {authorization}").trim().to_owned());
    let known = table.lock().unwrap().get(&format!("{path} {authorization}")).cloned();
    let known = known.or_else(|| table.lock().unwrap().get(&path).cloned());
    let answer = known.unwrap_or(Answer { status: 404, headers: Vec::new(), body: Some(b"none".to_vec()) });
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.body {
        Some(body) => {
            let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes());
            let _ = stream.write_all(&body);
        }
        None => {
            let _ = stream.write_all(format!("{head}\r\n").as_bytes());
            // Ends when the client hangs up.
            while stream.write_all(&[0; 65536]).is_ok() {}
        }
    }
}
