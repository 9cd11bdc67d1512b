//! What native code is made for, and what it depends on besides.

use crate::{cache, engine::Profile, engine_id};

/// A family of processors. Code is made for the baseline of a family, so that every machine of it can run the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processor {
    /// Intel and AMD, with nothing beyond SSE2.
    X86_64,
    /// ARM, with nothing beyond ARMv8.0.
    Aarch64,
}

impl Processor {
    /// That of this program.
    pub const HERE: Self = match cfg!(target_arch = "aarch64") {
        true => Self::Aarch64,
        false => Self::X86_64,
    };

    /// Name in records and in the names of files with code. The operating system is part of it, because the engine asks
    /// for it; the C library is not: a function that is linked with one finds what a program with another one compiled
    /// for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux",
            Self::Aarch64 => "aarch64-linux",
        }
    }

    /// The processor of this [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::X86_64, Self::Aarch64].into_iter().find(|processor| processor.name() == name)
    }

    /// Everything but the plugin itself that native code depends on, as one line for people and for comparing: engine,
    /// settings of both profiles, format of the files, processor. Code of one is nothing for a program of another.
    #[must_use]
    pub const fn native_code(self) -> &'static str {
        match self {
            Self::X86_64 => constcat::concat!(NATIVE_CODE, Processor::X86_64.name()),
            Self::Aarch64 => constcat::concat!(NATIVE_CODE, Processor::Aarch64.name()),
        }
    }
}

const NATIVE_CODE: &str = constcat::concat!(
    engine_id(),
    ", ",
    Profile::Pure.id(),
    ", ",
    Profile::Effect.id(),
    ", ",
    cache::FORMAT,
    ", "
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_everything() {
        assert_eq!(
            Processor::Aarch64.native_code(),
            "wasmtime 48.0.8, pure/1, effect/1, PNGAOT5, aarch64-linux"
        );
        for processor in [Processor::X86_64, Processor::Aarch64] {
            assert_eq!(Processor::from_name(processor.name()), Some(processor));
            assert!(processor.native_code().ends_with(processor.name()));
        }
    }
}
