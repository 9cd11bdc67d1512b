//! The fake as a program, for the emulated stack.

use std::{io::Write as _, net::SocketAddr, path::PathBuf};

use clap::Parser;
use pangolin_ecs_fake::{EcsFake, StandIn};
use tokio::signal::unix::{SignalKind, signal};

/// A small strict ECS control plane. Its tasks are local processes and no containers. Listens until it gets SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "pangolin-ecs-fake")]
struct Args {
    /// Where to listen; loopback only. Port 0 takes a free one. The URL is the first line of stdout.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Program that stands in for every image: the worker.
    #[arg(long)]
    worker: PathBuf,
    /// Variable that the image would bring, as NAME=VALUE; `{task}` becomes the task's own directory.
    #[arg(long = "image-env", value_parser = pair, default_values = ["PANGOLIN_TASK_DIR={task}", "PATH=/usr/local/bin:/usr/bin:/bin"])]
    image_env: Vec<(String, String)>,
    /// Cluster that exists beside `default`.
    #[arg(long = "cluster")]
    clusters: Vec<String>,
    /// URL that gets task state changes.
    #[arg(long)]
    events_to: Option<String>,
    /// Deliver state changes twice and out of order.
    #[arg(long)]
    scramble_events: bool,
    /// How long new tasks cannot be seen, in milliseconds.
    #[arg(long, default_value_t = 0)]
    visibility_delay_ms: i64,
    /// How long stopped tasks can be seen, in milliseconds.
    #[arg(long, default_value_t = 3_600_000)]
    vanish_ms: i64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    if !args.listen.ip().is_loopback() {
        return Err(std::io::Error::other(format!(
            "{} is not loopback; this server has no locks on its door",
            args.listen
        )));
    }
    // Before the first line: whoever has read it may end this program at once, and that must be a clean end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let fake = EcsFake::listen(args.listen).await?;
    for cluster in &args.clusters {
        fake.create_cluster(cluster);
    }
    fake.set_any_image(StandIn { program: args.worker, env: args.image_env });
    fake.set_visibility_delay_ms(args.visibility_delay_ms);
    fake.set_vanish_ms(args.vanish_ms);
    if args.scramble_events {
        fake.scramble_events();
    }
    if let Some(url) = &args.events_to {
        fake.post_events_to(url);
    }
    writeln!(std::io::stdout(), "{}", fake.endpoint())?;
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
