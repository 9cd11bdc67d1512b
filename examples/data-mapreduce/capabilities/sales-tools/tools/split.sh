#!/bin/sh
# One output per region of the file that the item names. Each becomes a map.
set -eu
file=$(printf '%s\n' "$PANGOLIN_INPUT_JSON" | sed -n 's/.*"file"[[:space:]]*:[[:space:]]*"\(data\/[a-z-]*\.csv\)".*/\1/p')
mkdir -p outputs
awk -F, 'NR > 1 { print > ("outputs/" $1 ".csv") }' "${file:?no file in PANGOLIN_INPUT_JSON}"
ls outputs
