#!/bin/sh
# Finds where the old name is used. Leaves an output and changes nothing.
set -eu
mkdir -p outputs
grep -rl fetch_all lib | sort >outputs/files.txt
cat outputs/files.txt
