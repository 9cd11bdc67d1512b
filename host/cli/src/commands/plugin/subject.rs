//! The component that a verb for authors works on, and an engine to run it.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use pangolin_plugin_authority::{
    COMPONENT_BYTES_MAX, Inspection, Kind, MANIFEST_FILE, Manifest, PluginId, inspect,
};
use pangolin_plugin_conformance::{FixtureError, FixtureFile};
use pangolin_plugin_host::{CacheKey, Failure, PluginHost};
use pangolin_runtime::{
    config::{Config, ConfigError},
    plugins::{self, Plugins},
};

use crate::{
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

/// A component with what is known without running it.
pub(super) struct Subject {
    pub(super) path: PathBuf,
    pub(super) from: From,
    pub(super) bytes: Vec<u8>,
    pub(super) inspection: Inspection,
}

/// Where a component was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// At its path.
    File,
    /// It ships with Pangolin; it has no path.
    BuiltIn,
    /// Pinned in `pangolin.lock`, from that source.
    Lock(String),
}

impl Subject {
    /// A component by path or by the id of a built-in or installed plugin. `is_id`: by id, whatever lies here.
    pub(super) fn find(context: &Context, word: &Path, is_id: bool) -> CliResult<Self> {
        let id = word.to_str().filter(|text| PluginId::new(text).is_ok());
        let Some(id) = id else {
            if is_id {
                let text = format!(
                    "{word:?} is no id; ids are <owner>/<name> of a-z, 0-9 and inner hyphens, or a name alone"
                );
                return Err(CliError::new(Exit::Usage, text));
            }
            return Self::read(word);
        };
        let here = fs::symlink_metadata(word).is_ok() && !is_id;
        let config = context.config();
        if here {
            // What is wrong with a deployment is none of a file's business.
            let installed = config.is_ok_and(|config| plugins::is_installed(&config, id).unwrap_or(false));
            let what = match (plugins::builtin(id).is_some(), installed) {
                (false, false) => return Self::read(word),
                (true, _) => "a built-in plugin",
                (false, true) => "an installed plugin",
            };
            let text = format!("{id} is something here and also the id of {what}");
            return Err(CliError::new(Exit::Usage, text)
                .hint(format!("./{id} names what is here, `--id {id}` the plugin")));
        }
        if let Some(bytes) = plugins::builtin(id) {
            return Self::of(PathBuf::new(), From::BuiltIn, bytes.to_vec(), id);
        }
        let config = deployment(config)?;
        if let Some(config) = &config
            && let Some(found) = plugins::installed(config, id)?
        {
            return Self::of(found.path, From::Lock(found.locked.source), found.bytes, id);
        }
        let known = plugins::ids(config.as_ref())?.join(", ");
        let here = if is_id { "" } else { "no file or directory here and " };
        let also =
            if config.is_some() { "" } else { "; there is no pangolin.toml here, so nothing is installed" };
        Err(CliError::new(
            Exit::NotFound,
            format!("{id} is {here}no id of a plugin; known are {known}{also}"),
        ))
    }

    fn of(path: PathBuf, from: From, bytes: Vec<u8>, name: &str) -> CliResult<Self> {
        let inspection =
            inspect(&bytes).map_err(|error| CliError::new(Exit::Failed, format!("{name}: {error}")))?;
        Ok(Self { path, from, bytes, inspection })
    }

    /// Reads a component, or the one that `plugin build` left in a plugin's directory.
    pub(super) fn read(path: &Path) -> CliResult<Self> {
        let path = if path.is_dir() { built(path)? } else { path.to_owned() };
        let bytes = read_bounded(&path).map_err(|error| {
            let exit = if error.kind() == io::ErrorKind::NotFound { Exit::Usage } else { Exit::Failed };
            CliError::new(exit, format!("cannot read {}: {error}", path.display())).hint(
                "name a component, or the directory of a plugin that was built with `pangolin plugin build`",
            )
        })?;
        let name = path.display().to_string();
        Self::of(path, From::File, bytes, &name)
    }

    /// What it is.
    pub(super) fn kind(&self) -> CliResult<Kind> {
        self.inspection.kind.ok_or_else(|| {
            CliError::new(
                Exit::Failed,
                format!("{}: its exports are not those of one kind of plugin", self.path.display()),
            )
            .hint("`pangolin plugin inspect` lists them")
        })
    }

    /// These fixtures, or those in the directory `fixtures` beside the component.
    pub(super) fn fixtures(&self, named: &[PathBuf]) -> CliResult<Vec<FixtureFile>> {
        let kind = self.kind()?;
        let found = if named.is_empty() {
            let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
            FixtureFile::read_all(&dir.join("fixtures"), kind)
        } else {
            let (mut found, mut errors) = (Vec::new(), Vec::new());
            for path in named {
                match FixtureFile::read(path, kind) {
                    Ok(fixture) => found.push(fixture),
                    Err(error) => errors.push(error),
                }
            }
            if errors.is_empty() { Ok(found) } else { Err(errors) }
        };
        found.map_err(|errors| unreadable(&errors))
    }
}

/// `None` when there is no configuration; one that cannot be read is an error.
fn deployment(found: CliResult<Config>) -> CliResult<Option<Config>> {
    match found {
        Ok(config) => Ok(Some(config)),
        Err(error) if matches!(error.error.downcast_ref(), Some(ConfigError::NotFound(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One byte over the limit at most: `inspect` then says how large a component may be.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Before opening: a pipe would wait for a writer.
    let size = match fs::metadata(path)? {
        meta if meta.is_file() => meta.len(),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    };
    if size > COMPONENT_BYTES_MAX as u64 {
        let message = format!("it has {size} bytes, a component has at most {COMPONENT_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(errors: &[FixtureError]) -> CliError {
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
    CliError::new(Exit::Usage, format!("the fixtures cannot be used:\n  {text}"))
}

/// Where `plugin build` puts the component.
fn built(dir: &Path) -> CliResult<PathBuf> {
    let file = dir.join(MANIFEST_FILE);
    let usage = |text: String| CliError::new(Exit::Usage, text);
    let text = fs::read_to_string(&file).map_err(|error| {
        usage(format!("{} is no plugin's directory: {error}", dir.display()))
            .hint("name a component, or start a plugin with `pangolin plugin new <name>`")
    })?;
    let manifest =
        Manifest::from_toml(&text).map_err(|error| usage(format!("{}: {error}", file.display())))?;
    let id = manifest.id.as_str();
    let name = id.rsplit_once('/').map_or(id, |(_, name)| name);
    let path = dir.join(format!("{name}.wasm"));
    if !path.is_file() {
        return Err(usage(format!("{} is not there", path.display()))
            .hint(format!("run `pangolin plugin build {}` first", dir.display())));
    }
    Ok(path)
}

/// An engine, and the directory that its cache lives in when there is no deployment.
pub(super) struct Engine {
    pub(super) host: PluginHost,
    _cache: Option<tempfile::TempDir>,
}

/// The engine of the deployment with its cache, or one with a cache of this user: an author needs no deployment.
pub(super) fn engine(context: &Context) -> CliResult<Engine> {
    if let Ok(config) = context.config()
        && let Ok(plugins) = Plugins::open(&config)
    {
        return Ok(Engine { host: plugins.host().clone(), _cache: None });
    }
    // A home that cannot be written costs time and nothing else.
    if let Some(host) = user_cache().and_then(|dir| host_in(&dir).ok()) {
        return Ok(Engine { host, _cache: None });
    }
    let cache = tempfile::tempdir()?;
    let host = host_in(cache.path()).map_err(|failure| CliError::new(Exit::Failed, failure.to_string()))?;
    Ok(Engine { host, _cache: Some(cache) })
}

/// Compiled code is authenticated with a key next to it, as in a deployment: both are private to the user.
fn host_in(dir: &Path) -> Result<PluginHost, Failure> {
    let key = CacheKey::load_or_create(&dir.join("plugin-cache.key"))?;
    PluginHost::new(&dir.join("plugins"), key)
}

/// `$XDG_CACHE_HOME/pangolin`, else `~/.cache/pangolin`. The XDG base directory specification ignores relative paths.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("pangolin"))
}
