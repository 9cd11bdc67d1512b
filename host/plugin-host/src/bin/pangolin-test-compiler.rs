//! A program that answers to `__compile-plugin`, and one that misbehaves in its place: for this crate's tests.

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let mode = arguments.next().unwrap_or_default();
    match mode.to_str() {
        Some(pangolin_plugin_host::COMPILE_COMMAND) => pangolin_plugin_host::compile_main(arguments),
        // As a compiler that takes its limits and then runs away.
        Some("limits-then-spin") => after_limits(arguments, || {
            let mut n = 0_u64;
            loop {
                n = std::hint::black_box(n.wrapping_add(1));
            }
        }),
        Some("limits-then-memory") => after_limits(arguments, || {
            let mut kept = Vec::new();
            loop {
                kept.push(std::hint::black_box(vec![1_u8; 16 << 20]));
            }
        }),
        Some("limits-then-recurse") => after_limits(arguments, || {
            std::hint::black_box(recurse(0));
        }),
        Some("limits-then-file") => after_limits(arguments, || {
            // The soft limit on file sizes is 0: the kernel ends the writer.
            let _ = std::fs::write("left-behind", b"x");
        }),
        Some("hang") => loop {
            std::thread::park();
        },
        Some("crash") => std::process::abort(),
        Some("flood") => {
            let mut stdout = std::io::stdout().lock();
            let piece = [b'x'; 4096];
            loop {
                if stdout.write_all(&piece).is_err() {
                    return ExitCode::FAILURE;
                }
            }
        }
        Some("environment") => {
            let mut words = format!("{} variables", std::env::vars_os().count());
            if let Ok(here) = std::fs::read_dir(".") {
                words.push_str(&format!(", {} files here", here.count()));
            }
            complain(&words);
            ExitCode::from(3)
        }
        // Like a program that knows nothing of plugins.
        _ => ExitCode::SUCCESS,
    }
}

/// The real compiler on an empty component first, which takes the limits.
fn after_limits(arguments: impl IntoIterator<Item = std::ffi::OsString>, then: impl FnOnce()) -> ExitCode {
    let code = pangolin_plugin_host::compile_main(arguments);
    then();
    code
}

fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if frame[0] == u64::MAX { 0 } else { frame[0].wrapping_add(recurse(depth + 1)) }
}

#[expect(clippy::print_stderr, reason = "how a compiler says why")]
fn complain(words: &str) {
    eprintln!("{words}");
}
