//! Licence texts and SPDX headers.

use std::io::{self, Read};

/// Whether a file's name says that it is a licence.
pub(crate) fn is_licence_text(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let starts = ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|start| name.starts_with(start));
    let extension = name.rsplit_once('.').map_or("", |parts| parts.1);
    // `license.rs` is code about licences.
    let code = [
        "RS", "PY", "JS", "MJS", "CJS", "TS", "TSX", "JSX", "GO", "JAVA", "KT", "C", "H", "CC", "CPP", "HPP",
        "CS", "RB", "PHP", "SH", "JSON", "TOML", "YAML", "YML", "XML", "HTML", "CSS", "SQL", "SVG", "CSV",
        "LOCK",
    ];
    starts && !code.contains(&extension)
}

/// The licence whose words a text has. Only well-known ones, by phrases that the others do not have.
pub(crate) fn identify(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |phrase: &str| text.contains(phrase);
    // The GNU licences name each other; the title comes first.
    let gnu = [
        ("gnu affero general public license", "affero"),
        ("gnu lesser general public license", "lesser"),
        ("gnu general public license", "general"),
    ];
    let first = gnu.iter().filter_map(|(title, kind)| text.find(title).map(|at| (at, *kind))).min();
    let simple = [
        ("mozilla public license version 2.0", "MPL-2.0"),
        ("business source license 1.1", "BUSL-1.1"),
        ("server side public license", "SSPL-1.0"),
        ("elastic license 2.0", "Elastic-2.0"),
        ("eclipse public license - v 2.0", "EPL-2.0"),
        ("boost software license - version 1.0", "BSL-1.0"),
        ("cc0 1.0 universal", "CC0-1.0"),
        ("this is free and unencumbered software released into the public domain", "Unlicense"),
        ("apache license version 2.0", "Apache-2.0"),
    ];
    // A title stands near the beginning; further down it is a mention.
    let title = simple.iter().filter_map(|(phrase, id)| text.find(phrase).map(|at| (at, *id))).min();
    match (title, first) {
        (Some((at, id)), gnu) if gnu.is_none_or(|gnu| at < gnu.0) => return Some(id),
        (_, Some((_, kind))) => {
            return match kind {
                "affero" if has("version 3") => Some("AGPL-3.0-only"),
                "lesser" if has("version 2.1") => Some("LGPL-2.1-only"),
                "lesser" if has("version 3") => Some("LGPL-3.0-only"),
                "general" if has("version 3, 29 june 2007") => Some("GPL-3.0-only"),
                "general" if has("version 2, june 1991") => Some("GPL-2.0-only"),
                _ => None,
            };
        }
        _ => {}
    }
    if has("permission is hereby granted, free of charge, to any person obtaining a copy") {
        let keeps_notice = has("the above copyright notice and this permission notice");
        return Some(if keeps_notice { "MIT" } else { "MIT-0" });
    }
    if has(
        "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted",
    ) || has(
        "permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted",
    ) {
        return Some(if has("provided that the above copyright notice") { "ISC" } else { "0BSD" });
    }
    if has("redistribution and use in source and binary forms") {
        let id = match (has("all advertising materials"), has("neither the name")) {
            (true, _) => "BSD-4-Clause",
            (false, true) => "BSD-3-Clause",
            (false, false) => "BSD-2-Clause",
        };
        return Some(id);
    }
    None
}

/// How far into a file a header may stand.
const HEADER_BYTES: u64 = 8 << 10;

/// The expression of an `SPDX-License-Identifier:` comment near the beginning.
pub(crate) fn identifier(source: impl Read) -> io::Result<Option<String>> {
    const TAG: &str = "SPDX-License-Identifier:";
    let mut bytes = Vec::new();
    source.take(HEADER_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines().take(40) {
        let Some((before, after)) = line.split_once(TAG) else { continue };
        // In code or prose it is no header.
        if before.contains(|letter: char| letter.is_alphanumeric() || matches!(letter, '"' | '\'' | '`')) {
            continue;
        }
        let mut expression = after.trim();
        for end in ["*/", "-->", "--%>", "#}", "--}}", "*)", "|#", "-}"] {
            expression = expression.strip_suffix(end).unwrap_or(expression).trim_end();
        }
        return Ok((!expression.is_empty()).then(|| expression.to_owned()));
    }
    Ok(None)
}
