#!/bin/sh
# Applies the work and writes down what it finds. Whether that is an approval is said by the verify of the subagent.
set -eu
sh tools/apply.sh inputs/work
mkdir -p outputs
sed -n 's/^listen = 0\.0\.0\.0.*/service.conf: listens on every interface/p' service.conf >outputs/findings
cat outputs/findings
