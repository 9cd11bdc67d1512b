//! A block without an SDK: looks at everything, writes one artifact, is green.

#![expect(unsafe_code, reason = "generated bindings")]

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-block@1.0.0"],
        world: "pangolin:block/block",
        generate_all,
    });
}

use bindings::{
    exports::pangolin::block::run::Guest,
    pangolin::{
        base::{
            log,
            types::{BytesRange, Fault, Refusal},
        },
        block::stage::{Input, Output},
    },
};

struct Minimal;

fn refused(refusal: Refusal) -> Fault {
    let Refusal { capability, subject, reason } = refusal;
    Fault {
        code: "refused".to_owned(),
        message: format!("{capability} {subject}: {reason}"),
        retryable: false,
        detail: None,
    }
}

impl Guest for Minimal {
    fn run(source: &Input, out: &Output) -> Result<(), Fault> {
        log::emit(log::Level::Info, &source.params_json());
        let mut bytes = 0;
        let mut count = 0;
        loop {
            let page = source.list_files("workspace/", count, 2).map_err(refused)?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                let range = BytesRange { offset: 0, length: 1 << 16 };
                let read = source.read(&entry.path, range).map_err(refused)?;
                bytes += read.len() as u64;
                count += 1;
            }
        }
        let earlier = source.earlier_json("nobody").is_some();
        let position = source.position();
        let lens = source.attr("lens").unwrap_or_default();
        let artifact = out.artifact("summary.txt").map_err(refused)?;
        artifact.write(format!("{count} files, {bytes} bytes").as_bytes()).map_err(refused)?;
        let digest = artifact.commit().map_err(refused)?;
        let evidence =
            format!(r#"{{"position":{position},"earlier":{earlier},"lens":"{lens}","digest":"{digest}"}}"#);
        out.evidence("seen", &evidence);
        out.verdict(true, &format!("{count} files, {bytes} bytes"));
        Ok(())
    }
}

bindings::export!(Minimal with_types_in bindings);
