//! Takes out of compiled code what the engine never reads: names of functions for debuggers, a twelfth of a file that is
//! copied and authenticated at every load.

use std::ops::Range;

/// ELF: where the 64-bit header says things, in bytes from its start (System V ABI, chapter 4).
const SECTIONS_AT: usize = 0x28;
const SECTION_SIZE_AT: usize = 0x3a;
const SECTION_COUNT_AT: usize = 0x3c;
const NAMES_INDEX_AT: usize = 0x3e;

/// The same of a section header.
const KIND_AT: usize = 0x04;
const OFFSET_AT: usize = 0x18;
const LENGTH_AT: usize = 0x20;
const LINK_AT: usize = 0x28;
const SECTION_BYTES: usize = 0x40;

/// Kinds of sections.
const SYMBOLS: u32 = 2;
const STRINGS: u32 = 3;
const NO_BYTES: u32 = 8;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).map(|it| usize::from(u16::from_le_bytes(it)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(number(bytes, at)?)).ok()
}

/// The same ELF file without its symbol table; the file itself when it is not laid out as the engine's compiler does it.
pub(crate) fn without_symbols(code: Vec<u8>) -> Vec<u8> {
    stripped(&code).unwrap_or(code)
}

/// Where the bytes of a section are.
fn place(section: &[u8]) -> Option<Range<usize>> {
    let start = usize_at(section, OFFSET_AT)?;
    let length = if u32_at(section, KIND_AT)? == NO_BYTES { 0 } else { usize_at(section, LENGTH_AT)? };
    Some(start..start.checked_add(length)?)
}

fn stripped(code: &[u8]) -> Option<Vec<u8>> {
    let (at, count) = (usize_at(code, SECTIONS_AT)?, u16_at(code, SECTION_COUNT_AT)?);
    if u16_at(code, SECTION_SIZE_AT)? != SECTION_BYTES {
        return None;
    }
    let headers = code.get(at..at.checked_add(count.checked_mul(SECTION_BYTES)?)?)?;
    let sections: Vec<&[u8]> = headers.chunks_exact(SECTION_BYTES).collect();
    let names = u16_at(code, NAMES_INDEX_AT)?;
    let symbols = sections.iter().position(|section| u32_at(section, KIND_AT) == Some(SYMBOLS))?;
    let texts = usize::try_from(u32_at(sections[symbols], LINK_AT)?).ok()?;
    // The symbols, their names and the names of the sections are the last sections, in this order. So nobody's index
    // changes but that of the last one.
    let is_last = [symbols, texts, names] == [count.checked_sub(3)?, count - 2, count - 1]
        && [texts, names].iter().all(|it| u32_at(sections[*it], KIND_AT) == Some(STRINGS));
    let (kept, end) = (&sections[..symbols], place(sections[symbols])?.start);
    let is_before = |section: &&[u8]| place(section).is_some_and(|place| place.end <= end);
    if !is_last || !kept.iter().all(is_before) {
        return None;
    }
    let mut out = code.get(..end)?.to_vec();
    let mut last = sections[names].to_vec();
    last[OFFSET_AT..OFFSET_AT + 8].copy_from_slice(&(out.len() as u64).to_le_bytes());
    out.extend_from_slice(code.get(place(sections[names])?)?);
    out.resize(out.len().next_multiple_of(8), 0);
    let at = (out.len() as u64).to_le_bytes();
    kept.iter().for_each(|section| out.extend_from_slice(section));
    out.extend_from_slice(&last);
    out[SECTIONS_AT..SECTIONS_AT + 8].copy_from_slice(&at);
    let count = u16::try_from(kept.len() + 1).ok()?;
    out[SECTION_COUNT_AT..SECTION_COUNT_AT + 2].copy_from_slice(&count.to_le_bytes());
    out[NAMES_INDEX_AT..NAMES_INDEX_AT + 2].copy_from_slice(&(count - 1).to_le_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, component::Component};

    use super::{stripped, without_symbols};
    use crate::{Profile, engine_config};

    #[test]
    fn what_the_compiler_makes_gets_smaller_and_loads() {
        for profile in [Profile::Pure, Profile::Effect] {
            let engine = Engine::new(&engine_config(profile)).unwrap();
            let code = engine
                .precompile_component(
                    &wat::parse_str("(component (core module $m (func)) (core instance (instantiate $m)))")
                        .unwrap(),
                )
                .unwrap();
            let small = stripped(&code).expect("its layout is the known one");
            assert!(small.len() < code.len());
            #[expect(unsafe_code, reason = "native code of the line above")]
            // SAFETY: the compiler of this engine made it just now.
            let loaded = unsafe { Component::deserialize(&engine, &small) };
            assert!(loaded.is_ok(), "{:?}", loaded.err());
            // Nothing is left to take out.
            assert!(without_symbols(small.clone()) == small);
        }
    }

    #[test]
    fn other_bytes_stay_as_they_are() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 64], &[0xff; 4096]] {
            assert_eq!(without_symbols(bytes.to_vec()), bytes);
        }
    }
}
