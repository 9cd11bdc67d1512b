//! Imports, exports and manifest, without running anything.

use pangolin_plugin_authority::{Import, Inspection, reconcile};

use crate::report::Found;

/// The imports are allowed, the exports are there, the manifest fits the binary.
pub(crate) fn check(inspection: &Inspection) -> Found {
    let Some(world) = inspection.world else {
        let exports = inspection.exports.iter().map(Import::name).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "its exports ({}) are not those of one kind of plugin; export pangolin:pattern/decide, \
             pangolin:runtime-adapter/adapter or pangolin:block/run",
            if exports.is_empty() { "none" } else { &exports }
        ));
    };
    if !inspection.foreign.is_empty() {
        let foreign = inspection.foreign.iter().map(Import::name).collect::<Vec<_>>().join(", ");
        return Err(format!("it imports {foreign}, which no plugin gets; remove what pulls it in"));
    }
    let imports = inspection.imports.len();
    let Some(manifest) = &inspection.manifest else {
        return Ok(format!(
            "world {world}, {imports} imports, all allowed; no manifest is embedded (`pangolin plugin build` does)"
        ));
    };
    match reconcile(manifest, inspection) {
        Ok(fits) if fits.warnings.is_empty() => {
            Ok(format!("world {world}, {imports} imports, all allowed; the manifest fits the binary"))
        }
        Ok(fits) => {
            Ok(format!("world {world}, {imports} imports, all allowed; {}", fits.warnings.join("; ")))
        }
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}
