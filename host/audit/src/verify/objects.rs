//! The objects of a bundle: their bytes, their digests, and that each of them is referred to.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_core::ids::Digest;

use super::{
    entries::Walk,
    findings::{CheckName, Findings},
};
use crate::{bundle::Bundle, rebuild::Documents, refs::Need};

/// What a bundle has under a digest.
pub(super) enum Lookup<'o> {
    /// The bytes, verified against the digest.
    Bytes(Cow<'o, [u8]>),
    /// Something else than the digest promises; already reported.
    Damaged,
    /// Nothing.
    Missing,
}

/// The objects. Bytes are decoded when asked for, so that the peak memory is one object.
pub(super) struct Objects<'b> {
    encoded: &'b BTreeMap<Digest, &'b str>,
    damaged: BTreeSet<Digest>,
}

impl<'b> Objects<'b> {
    /// Checks encoding and digest of every object.
    pub(super) fn decode(bundle: &'b Bundle<'_>, findings: &mut Findings) -> Self {
        let mut damaged = BTreeSet::new();
        let mut bytes = Vec::new();
        for (digest, text) in &bundle.objects {
            bytes.clear();
            let problem = match STANDARD.decode_vec(text, &mut bytes) {
                Err(error) => format!("is not base64: {error}"),
                Ok(()) => {
                    let found = Digest::of(&bytes);
                    if found == *digest {
                        continue;
                    }
                    format!("its bytes have digest {found}")
                }
            };
            findings.fail(CheckName::Objects, format!("object {digest}"), problem);
            damaged.insert(*digest);
        }
        Self { encoded: &bundle.objects, damaged }
    }

    /// The bytes of an object.
    pub(super) fn get(&self, digest: &Digest) -> Lookup<'b> {
        if self.damaged.contains(digest) {
            return Lookup::Damaged;
        }
        match self.encoded.get(digest).map(|text| STANDARD.decode(text)) {
            Some(Ok(bytes)) => Lookup::Bytes(Cow::Owned(bytes)),
            Some(Err(_)) => Lookup::Damaged,
            None => Lookup::Missing,
        }
    }

    /// Every object and external digest is referred to, and everything needed is there.
    pub(super) fn check_references(&self, bundle: &Bundle<'_>, walk: &Walk, findings: &mut Findings) {
        if !walk.complete {
            // Entries that were not read could refer to anything.
            return;
        }
        let here = |digest: &Digest| walk.references.get(digest).is_some();
        if walk.unknown_kinds == 0 && !walk.manifests_missing && !walk.lists_missing {
            for digest in bundle.objects.keys().filter(|digest| !here(digest)) {
                let place = format!("object {digest}");
                findings.fail(CheckName::Objects, place, "nothing in the run refers to it");
            }
            for digest in bundle.external.keys().filter(|digest| !here(digest)) {
                let place = format!("external {digest}");
                findings.fail(CheckName::Objects, place, "nothing in the run refers to it");
            }
        }
        for digest in bundle.external.keys().filter(|digest| bundle.objects.contains_key(digest)) {
            let place = format!("external {digest}");
            findings.fail(CheckName::Objects, place, "it is listed as not included, but it is included");
        }
        let mut missing = 0_u64;
        for (digest, role, seq) in walk.references.iter() {
            let embedded = bundle.objects.contains_key(digest);
            let listed = embedded || bundle.external.contains_key(digest);
            let there = match role.need() {
                Need::Embedded => embedded,
                Need::Listed => listed,
                Need::Optional => true,
            };
            if !there {
                missing += 1;
                findings
                    .incomplete
                    .push(format!("{} {digest} of entry seq {seq} is not in the bundle", role.as_str()));
            }
        }
        let (embedded, external) = (bundle.objects.len(), bundle.external.len());
        let counts = format!(
            "{embedded} objects match their digests and are referred to, {external} are not included"
        );
        match missing {
            0 if embedded + external == 0 => {
                findings.set(CheckName::Objects, crate::report::Check::not_applicable("no objects"));
            }
            0 => findings.pass(CheckName::Objects, counts),
            missing => {
                let detail = format!("{missing} needed objects are missing; {counts}");
                findings.set(CheckName::Objects, crate::report::Check::not_applicable(detail));
            }
        }
    }
}

impl Documents for Objects<'_> {
    fn document(&self, digest: &Digest) -> Result<Cow<'_, [u8]>, String> {
        match self.get(digest) {
            Lookup::Bytes(bytes) => Ok(bytes),
            Lookup::Missing => Err("is not in the bundle".to_owned()),
            Lookup::Damaged => Err("is damaged".to_owned()),
        }
    }
}
