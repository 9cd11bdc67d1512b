//! `pangolin-model-server SCRIPT [ADDRESS]`: serves one script and prints its address as one JSON line. Ends when its
//! standard input is closed.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
};

use pangolin_model_server::{Script, serve_on};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let script: Script = arguments.next().ok_or("usage: pangolin-model-server SCRIPT [ADDRESS]")?.parse()?;
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let server = serve_on(script, address)?;
    let line = serde_json::json!({"address": server.address().to_string(), "base_url": server.base_url()});
    writeln!(io::stdout(), "{line}")?;
    io::stdout().flush()?;
    // Held open by whoever started us; its end is our end.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    for seen in server.seen() {
        writeln!(io::stderr(), "{}", seen.line)?;
    }
    Ok(())
}
