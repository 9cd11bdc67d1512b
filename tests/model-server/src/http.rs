//! As much of HTTP/1.1 as one request needs.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Largest request body in bytes.
const BODY_BYTES_MAX: u64 = 32 << 20;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|header| header.1.as_str())
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    reader.take(64 << 10).read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// Reads one request.
pub(crate) fn read<S: Read + Write>(stream: &mut S) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(invalid("request line"));
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let text = line(&mut reader)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or_else(|| invalid("header"))?;
        request.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size =
                u64::from_str_radix(line(&mut reader)?.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(|_| invalid("chunk size"))?;
            if size == 0 {
                line(&mut reader)?;
                break;
            }
            if request.body.len() as u64 + size > BODY_BYTES_MAX {
                return Err(invalid("body is too large"));
            }
            reader.by_ref().take(size).read_to_end(&mut request.body)?;
            line(&mut reader)?;
        }
    } else if let Some(length) = request.header("content-length") {
        let length: u64 = length.parse().map_err(|_| invalid("content-length"))?;
        if length > BODY_BYTES_MAX {
            return Err(invalid("body is too large"));
        }
        reader.take(length).read_to_end(&mut request.body)?;
    }
    Ok(request)
}

/// Writes a whole response and asks the client to close.
pub(crate) fn respond(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    stream.flush()
}

/// Begins an event stream that ends when the connection is closed.
pub(crate) fn begin_events(stream: &mut impl Write) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n",
    )?;
    stream.flush()
}
