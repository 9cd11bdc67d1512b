#!/bin/sh
# Packs what was reviewed.
set -eu
sh tools/apply.sh inputs/work
sh check.sh
mkdir -p outputs
cp slug.sh outputs/slug-1.0.sh
echo "publish: slug-1.0.sh"
