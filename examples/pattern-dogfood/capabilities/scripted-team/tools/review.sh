#!/bin/sh
# Applies the work and writes down what is wrong with it. The verdict is not its own: it comes from the blocks that
# follow in pipelines/review.json.
set -eu
sh tools/apply.sh inputs/work
mkdir -p outputs
{
    sh check.sh | grep '^check: red' || true
    [ ! -e upload.env ] || echo "upload.env: nobody asked for this file, and it holds a credential"
} >outputs/findings
cat outputs/findings
