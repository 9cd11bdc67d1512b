//! Of which release this program is, for packages and for project archives.

use std::hint::black_box;

use pangolin_plugin_host::Processor;
use pangolin_stack::{Architecture, MARK, MARK_END, Release};

/// The processor of an architecture.
#[must_use]
pub const fn processor(architecture: Architecture) -> Processor {
    match architecture {
        Architecture::Arm64 => Processor::Aarch64,
        Architecture::X86_64 => Processor::X86_64,
    }
}

/// In the bytes of every program that loads native code in a stack; `cargo xtask package` reads it there. The first and the
/// last character are those of [`Release::find`].
const MARKED: &str = constcat::concat!(
    MARK,
    env!("CARGO_PKG_VERSION"),
    "\n",
    Processor::HERE.native_code(),
    PLUGINS,
    pangolin_builtin_plugins::SET,
    "\u{3}"
);

const PLUGINS: &str = ", plugins ";

/// The release of this program, as far as code for `processor` is concerned.
#[must_use]
pub fn release(processor: Processor) -> Release {
    let native_code = format!("{}{PLUGINS}{}", processor.native_code(), pangolin_builtin_plugins::SET);
    Release { version: env!("CARGO_PKG_VERSION").to_owned(), native_code }
}

/// The release of this program for its own processor, from the mark. Read at run time, so that it is in the program.
pub(super) fn own() -> Release {
    let marked = black_box(MARKED);
    let words = marked.strip_prefix(MARK).and_then(|text| text.strip_suffix(MARK_END));
    words.and_then(Release::parse).unwrap_or_else(|| release(Processor::HERE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_says_what_the_program_says() {
        assert_eq!(Release::find(MARKED.as_bytes()), Some(release(Processor::HERE)));
        assert_eq!(own(), release(Processor::HERE));
        assert_ne!(release(Processor::X86_64), release(Processor::Aarch64));
    }
}
