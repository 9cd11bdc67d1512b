//! Components as files: the embedded manifest, and what the binary imports. Nothing is run or compiled, and no byte
//! is trusted.

use std::collections::BTreeSet;

use pangolin_core::ids::Digest;
use semver::Version;
use serde::Serialize;
use thiserror::Error;
use wasmparser::{Encoding, Parser, Payload};

use crate::{
    finding::{Findings, is_deceptive},
    id::Kind,
    manifest::Manifest,
};

/// Name of the custom section.
pub const MANIFEST_SECTION: &str = "pangolin:manifest";

/// Largest embedded manifest in bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// Largest component that is looked at, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// Most imports and exports of a component together.
const NAMES_MAX: usize = 1024;

/// The 14 interfaces that ordinary guests import whether they use them or not. The host links them without effect.
const INERT_WASI: [&str; 14] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
];

/// Why a file is not a usable component.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// Too large to look at.
    #[error("the component has {size} bytes, the limit is {COMPONENT_BYTES_MAX}")]
    TooLarge {
        /// Bytes.
        size: usize,
    },
    /// No WebAssembly, or damaged.
    #[error("not a WebAssembly component: {problem}")]
    Malformed {
        /// What the parser said.
        problem: String,
    },
    /// A core module.
    #[error(
        "this is a core module, not a component; build for wasm32-wasip2 or run it through `wasm-tools component new`"
    )]
    CoreModule,
    /// No manifest section.
    #[error(
        "the component has no manifest; build it with `pangolin plugin build`, which embeds pangolin-plugin.toml"
    )]
    NoManifest,
    /// More than one manifest section: readers could disagree.
    #[error("the component has {count} manifest sections; exactly one is allowed")]
    SeveralManifests {
        /// How many.
        count: usize,
    },
    /// Over [`MANIFEST_BYTES_MAX`].
    #[error("the embedded manifest has {size} bytes, the limit is {MANIFEST_BYTES_MAX}")]
    ManifestTooLarge {
        /// Bytes.
        size: usize,
    },
    /// The section is no manifest.
    #[error(transparent)]
    Manifest(#[from] Findings),
    /// Embedding into something that has one.
    #[error("the component has a manifest already; embed into the component as the compiler made it")]
    AlreadyEmbedded,
}

/// One imported or exported interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Import {
    /// Without version, e.g. `pangolin:block/exec`.
    pub interface: String,
    /// Version, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

impl Import {
    fn parse(name: &str) -> Self {
        match name.split_once('@') {
            Some((interface, version)) if Version::parse(version).is_ok() => {
                Self { interface: interface.to_owned(), version: Version::parse(version).ok() }
            }
            // A version that is none stays part of the name, and so fits no contract.
            _ => Self { interface: name.to_owned(), version: None },
        }
    }

    /// `interface@version`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.interface),
            None => self.interface.clone(),
        }
    }

    pub(crate) fn is_of(&self, package: &str) -> bool {
        self.interface.strip_prefix(package).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What a component is, from its bytes alone.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: usize,
    /// What it exports decides; `None` when it fits no kind or several.
    pub kind: Option<Kind>,
    /// The smallest world of that kind, e.g. `block-full`.
    pub world: Option<&'static str>,
    /// Imported interfaces.
    pub imports: Vec<Import>,
    /// Exported interfaces.
    pub exports: Vec<Import>,
    /// Imports that are neither of a contract nor among the inert 14: such a component is refused.
    pub foreign: Vec<Import>,
    /// What the imports can do at most, in words.
    pub abilities: Vec<String>,
    /// The embedded manifest.
    pub manifest: Option<Manifest>,
}

impl Inspection {
    /// Whether an interface of a contract is imported.
    #[must_use]
    pub fn imports_interface(&self, interface: &str) -> bool {
        self.imports.iter().any(|import| import.interface == interface)
    }

    fn exports_interface(&self, interface: &str) -> bool {
        self.exports.iter().any(|export| export.interface == interface)
    }
}

/// What stands at the top level of a component.
struct Outline<'b> {
    imports: Vec<&'b str>,
    exports: Vec<&'b str>,
    manifests: Vec<&'b [u8]>,
}

fn outline(bytes: &[u8]) -> Result<Outline<'_>, ComponentError> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(ComponentError::TooLarge { size: bytes.len() });
    }
    let malformed = |problem: String| ComponentError::Malformed { problem: printable(&problem) };
    let parse = |error: wasmparser::BinaryReaderError| malformed(error.to_string());
    let mut outline = Outline { imports: Vec::new(), exports: Vec::new(), manifests: Vec::new() };
    // Nested modules and components are walked over; what they hold is theirs.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(parse)? {
            Payload::Version { encoding, .. } if depth == 0 && encoding != Encoding::Component => {
                return Err(ComponentError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.imports.push(import.map_err(parse)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    outline.exports.push(export.map_err(parse)?.name.name);
                }
            }
            Payload::CustomSection(section) if depth == 0 && section.name() == MANIFEST_SECTION => {
                outline.manifests.push(section.data());
            }
            _ => {}
        }
        if outline.imports.len() + outline.exports.len() > NAMES_MAX {
            return Err(malformed(format!("more than {NAMES_MAX} imports and exports")));
        }
    }
    Ok(outline)
}

fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if is_deceptive(c) { '\u{fffd}' } else { c }).collect()
}

fn manifest_of(outline: &Outline<'_>) -> Result<Option<Manifest>, ComponentError> {
    match outline.manifests.as_slice() {
        [] => Ok(None),
        [section] if section.len() > MANIFEST_BYTES_MAX => {
            Err(ComponentError::ManifestTooLarge { size: section.len() })
        }
        [section] => Ok(Some(Manifest::from_json(section)?)),
        several => Err(ComponentError::SeveralManifests { count: several.len() }),
    }
}

/// Puts a manifest into a component, as its last top-level section.
///
/// # Errors
/// [`ComponentError`] when the bytes are no component or have a manifest.
pub fn embed(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ComponentError> {
    if !outline(component)?.manifests.is_empty() {
        return Err(ComponentError::AlreadyEmbedded);
    }
    let data = manifest.to_json();
    if data.len() > MANIFEST_BYTES_MAX {
        return Err(ComponentError::ManifestTooLarge { size: data.len() });
    }
    let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data: data.into() };
    let mut bytes = component.to_vec();
    wasm_encoder::ComponentSection::append_to_component(&section, &mut bytes);
    Ok(bytes)
}

/// The embedded manifest.
///
/// # Errors
/// [`ComponentError`]: none, several, too large or malformed.
pub fn extract(component: &[u8]) -> Result<Manifest, ComponentError> {
    manifest_of(&outline(component)?)?.ok_or(ComponentError::NoManifest)
}

/// Looks at a component without running or compiling it. A component without manifest is fine here.
///
/// # Errors
/// [`ComponentError`].
pub fn inspect(component: &[u8]) -> Result<Inspection, ComponentError> {
    let outline = outline(component)?;
    let manifest = manifest_of(&outline)?;
    let names = |names: &[&str]| -> Vec<Import> {
        names
            .iter()
            .map(|name| Import::parse(&printable(name)))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let mut inspection = Inspection {
        digest: Digest::of(component),
        size: component.len(),
        kind: None,
        world: None,
        imports: names(&outline.imports),
        exports: names(&outline.exports),
        foreign: Vec::new(),
        abilities: Vec::new(),
        manifest,
    };
    let exported: Vec<Kind> = [
        (Kind::Pattern, "pangolin:pattern/decide"),
        (Kind::RuntimeAdapter, "pangolin:runtime-adapter/adapter"),
        (Kind::Block, "pangolin:block/run"),
    ]
    .into_iter()
    .filter(|(_, interface)| inspection.exports_interface(interface))
    .map(|(kind, _)| kind)
    .collect();
    if let [kind] = exported[..] {
        inspection.kind = Some(kind);
        inspection.world = Some(match kind {
            Kind::Pattern if inspection.exports_interface("pangolin:pattern/planner") => "pattern-planner",
            Kind::Pattern => "pattern",
            Kind::RuntimeAdapter => "runtime-adapter",
            Kind::Block
                if inspection.imports_interface("pangolin:block/exec")
                    || inspection.imports_interface("pangolin:block/fetch") =>
            {
                "block-full"
            }
            Kind::Block => "block",
        });
    }
    let is_known = |import: &Import| {
        import.is_of("pangolin:base")
            || inspection.kind.is_some_and(|kind| import.is_of(kind.package()))
            || INERT_WASI.contains(&import.interface.as_str())
    };
    inspection.foreign = inspection.imports.iter().filter(|import| !is_known(import)).cloned().collect();
    inspection.abilities = abilities(&inspection);
    Ok(inspection)
}

fn abilities(inspection: &Inspection) -> Vec<String> {
    const WORDS: [(&str, &str); 7] = [
        ("pangolin:base/log", "may write log lines"),
        ("pangolin:pattern/graph", "sees the items of a run and may add items to it"),
        ("pangolin:runtime-adapter/session", "sees a task with its prompt and says how an agent is started"),
        ("pangolin:block/stage", "may read granted files, write granted artifacts and give a verdict"),
        ("pangolin:block/exec", "may start granted programs in the workspace"),
        ("pangolin:block/fetch", "may talk to granted hosts"),
        ("wasi:random/insecure-seed", "gets a fixed seed for its hash tables"),
    ];
    let mut words: Vec<String> = WORDS
        .iter()
        .filter(|(interface, _)| inspection.imports_interface(interface))
        .map(|(_, words)| (*words).to_owned())
        .collect();
    for import in &inspection.foreign {
        words.push(format!("wants {}, which no plugin gets: it will be refused", import.name()));
    }
    if words.is_empty() {
        words.push("imports nothing".to_owned());
    }
    words
}
