#!/bin/sh
# Self-verify of one edit: is the item's own file finished? The other two files belong to other workers.
set -eu
file=$(printf '%s\n' "${PANGOLIN_INPUT_JSON:?is not set}" |
    sed -n 's/.*"file"[[:space:]]*:[[:space:]]*"\([a-z]*\.ts\)".*/\1/p')
exec sh check.sh "${file:?no file in PANGOLIN_INPUT_JSON}"
