//! Writes the exported files of `infra/` and `docs/` anew: `cargo run -p pangolin-deploy --example export`.

use std::{fs, path::Path};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::create_dir_all(root.join("infra"))?;
    fs::write(root.join("infra/template.json"), pangolin_deploy::template::export())?;
    fs::write(root.join("infra/rights.md"), pangolin_deploy::exported::rights())?;
    fs::write(root.join("docs/aws-cost.md"), pangolin_deploy::exported::cost())
}
