#!/bin/sh
# The follow-up that the third party's pattern adds.
set -eu
sh tools/apply.sh inputs/deps/write.patch
[ "$(wc -l <notes.txt)" -eq 2 ]
echo "check: two notes"
