#!/bin/sh
# Renames in the files that the survey names, and in no other. Leaves a patch.
set -eu
while read -r file; do
    sed 's/fetch_all/read_lines/g' "$file" >"$file.new"
    cat "$file.new" >"$file"
    rm "$file.new"
    echo "renamed in $file"
done <inputs/survey/files.txt
