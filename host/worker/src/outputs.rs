//! Output capture: regular files below `outputs/`, in byte order, within limits. What is left out is named.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::Path,
};

use pangolin_envelope::{
    envelope::CommandLimits,
    result::{OUTPUTS_DIR, OutputFile},
};

use crate::{
    capture::clear,
    scan::{self, Kind},
};

/// Copies `outputs/` of the workspace to the result directory.
///
/// # Errors
/// When the copies cannot be written.
pub(crate) fn collect(
    workspace: &Path,
    result_dir: &Path,
    limits: &CommandLimits,
) -> Result<(Vec<OutputFile>, Vec<String>), String> {
    let target = result_dir.join(OUTPUTS_DIR);
    let failed = |error: io::Error| format!("cannot write outputs to {}: {error}", target.display());
    clear(&target).map_err(failed)?;
    DirBuilder::new().mode(0o755).create(&target).map_err(failed)?;
    let source = workspace.join(OUTPUTS_DIR);
    let mut left_out = Vec::new();
    match source.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), left_out)),
        Ok(meta) if meta.is_dir() => {}
        _ => return Ok((Vec::new(), vec!["outputs: is not a directory; links are not followed".to_owned()])),
    }
    let mut found: Vec<(Vec<u8>, Kind)> = Vec::new();
    walk(&source, &[], &mut found, &mut left_out);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut outputs = Vec::new();
    for (path, kind) in found {
        let name = format!("outputs/{}", scan::encode(&path));
        let Kind::File { executable } = kind else {
            left_out.push(format!("{name}: is not a regular file; links are not followed"));
            continue;
        };
        let Ok(text) = String::from_utf8(path.clone()) else {
            left_out.push(format!("{name}: its name is not UTF-8"));
            continue;
        };
        if outputs.len() >= limits.output_files as usize {
            left_out.push(format!("{name}: over the limit of {} output files", limits.output_files));
            continue;
        }
        let place = scan::at(&target, &path);
        place.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut sink =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&place).map_err(failed)?;
        match scan::read(&source, &path, kind, limits.output_file_bytes, &mut sink).and_then(|state| {
            sink.flush()?;
            Ok(state)
        }) {
            Ok(state) => outputs.push(OutputFile { path: text, digest: state.digest, size: state.size }),
            Err(error) => {
                fs::remove_file(&place).map_err(failed)?;
                left_out.push(match error.kind() {
                    io::ErrorKind::FileTooLarge => {
                        format!(
                            "{name}: over the limit of {} bytes per output file",
                            limits.output_file_bytes
                        )
                    }
                    _ => format!("{name}: {error}"),
                });
            }
        }
    }
    Ok((outputs, left_out))
}

fn walk(source: &Path, directory: &[u8], found: &mut Vec<(Vec<u8>, Kind)>, problems: &mut Vec<String>) {
    let entries = match fs::read_dir(scan::at(source, directory)) {
        Ok(entries) => entries,
        Err(error) => return problems.push(format!("outputs/{}: {error}", scan::encode(directory))),
    };
    for entry in entries.flatten() {
        let mut path = directory.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.file_name().as_bytes());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(source, &path, found, problems),
            Ok(kind) if kind.is_file() => {
                use std::os::unix::fs::PermissionsExt;
                let executable = entry.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0);
                found.push((path, Kind::File { executable }));
            }
            Ok(kind) => found.push((path, if kind.is_symlink() { Kind::Link } else { Kind::Special })),
            Err(error) => problems.push(format!("outputs/{}: {error}", scan::encode(&path))),
        }
    }
}
