"""Block {{id}}: no file of the workspace may be larger than `maxBytes`.

A block of the world `block` reads and judges. It changes nothing.
"""

import json

from componentize_py_types import Err
from pangolin import fault, guarded, refused
from wit_world import exports
from wit_world.imports.stage import Input, Output

PAGE = 256
# Findings that are listed; the rest is counted.
LISTED = 50


def max_bytes(source: Input) -> int:
    try:
        params = json.loads(source.params_json() or "{}")
    except (ValueError, RecursionError) as error:
        raise fault("bad-params", f"/params: not JSON ({error})")
    if not isinstance(params, dict):
        raise fault("bad-params", "/params: must be an object")
    limit = params.get("maxBytes", 1_000_000)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise fault("bad-params", "/params/maxBytes: must be a whole number of at least 1")
    return limit


def files(source: Input, prefix: str):
    offset = 0
    while True:
        try:
            page = source.list_files(prefix, offset, PAGE)
        except Err as error:
            raise refused(error)
        if not page:
            return
        yield from page
        offset += len(page)


class Run(exports.Run):
    @guarded
    def run(self, source: Input, out: Output) -> None:
        limit = max_bytes(source)
        findings = []
        total = 0
        for file in files(source, "workspace/"):
            # TODO({{name}}): the place for your own check. `file` has path, size and perhaps a digest.
            if file.size <= limit:
                continue
            total += 1
            if len(findings) < LISTED:
                findings.append({"path": file.path, "bytes": file.size})
        evidence = {"schemaVersion": 1, "maxBytes": limit, "total": total, "findings": findings}
        out.evidence("large-files", json.dumps(evidence))
        out.verdict(total == 0, "no file is too large" if total == 0 else f"{total} file(s) over {limit} bytes")
