//! Block {{id}}: no file of the workspace may be larger than `maxBytes`.
//!
//! A block reads and judges. It changes nothing.

use std::collections::BTreeMap;

use pangolin_block_sdk::{Block, Fault, Input, Output, refused};

/// Findings that are listed; the rest is counted.
const LISTED: usize = 50;

struct Mine;

impl Block for Mine {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let mut params = input.params();
        let limit = params.integer("maxBytes", 1..=u64::from(u32::MAX), 1_000_000);
        params.finish()?;
        let mut found = BTreeMap::new();
        let mut total = 0_u64;
        for file in input.files("workspace/") {
            let file = file.map_err(|refusal| refused(&refusal))?;
            // TODO({{name}}): the place for your own check. `file` has path, size and perhaps a digest.
            if file.size <= limit {
                continue;
            }
            total += 1;
            if found.len() < LISTED {
                found.insert(file.path, file.size);
            }
        }
        output.evidence("total", &total)?;
        output.evidence("large-files", &found)?;
        let summary = match total {
            0 => "no file is too large".to_owned(),
            _ => format!("{total} file(s) over {limit} bytes"),
        };
        output.verdict(total == 0, &summary);
        Ok(())
    }
}

pangolin_block_sdk::export_block!(Mine);

#[cfg(test)]
mod tests {
    use pangolin_block_sdk::mock::Mock;

    use super::Mine;

    #[test]
    fn a_large_file_is_red() {
        let mock = || Mock::new().params(r#"{"maxBytes": 3}"#);
        assert!(mock().added("small.txt", "ab\n").run::<Mine>().passed());
        assert!(!mock().added("large.txt", "abcdef\n").run::<Mine>().passed());
    }
}
