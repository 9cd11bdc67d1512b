// Block {{id}}: no file of the workspace may be larger than `maxBytes`.
//
// A block of the world `block` reads and judges. It changes nothing.

import { fault, guarded, refused } from './pangolin.js';

const PAGE = 256;
/** Findings that are listed; the rest is counted. */
const LISTED = 50;

function maxBytes(source) {
  let params;
  try {
    params = JSON.parse(source.paramsJson() || '{}');
  } catch (error) {
    throw fault('bad-params', `/params: not JSON (${error.message})`);
  }
  const limit = params?.maxBytes ?? 1_000_000;
  if (!Number.isSafeInteger(limit) || limit < 1) {
    throw fault('bad-params', '/params/maxBytes: must be a whole number of at least 1');
  }
  return BigInt(limit);
}

function* files(source, prefix) {
  for (let offset = 0; ; ) {
    let page;
    try {
      page = source.listFiles(prefix, offset, PAGE);
    } catch (error) {
      throw refused(error);
    }
    if (page.length === 0) return;
    yield* page;
    offset += page.length;
  }
}

export const run = {
  run: guarded((source, out) => {
    const limit = maxBytes(source);
    const findings = [];
    let total = 0;
    for (const file of files(source, 'workspace/')) {
      // TODO({{name}}): the place for your own check. `file` has path, size and perhaps a digest.
      if (file.size <= limit) continue;
      total += 1;
      if (findings.length < LISTED) findings.push({ path: file.path, bytes: Number(file.size) });
    }
    out.evidence('large-files', JSON.stringify({ schemaVersion: 1, maxBytes: Number(limit), total, findings }));
    out.verdict(total === 0, total === 0 ? 'no file is too large' : `${total} file(s) over ${limit} bytes`);
  }),
};
