#!/bin/sh
# Applies the patch of the rename and tries the program. Leaves a report as output.
set -eu
sh tools/apply.sh inputs/work
if grep -rq fetch_all lib; then
    echo "the old name is still used" >&2
    exit 1
fi
printf 'one\n\ntwo\n' >sample.txt
lines=$(sh count.sh sample.txt)
rm sample.txt
[ "$lines" = 2 ] || { echo "count.sh says $lines, not 2" >&2; exit 1; }
mkdir -p outputs
echo "count.sh works, $(wc -l <inputs/survey/files.txt) files renamed" >outputs/report.txt
cat outputs/report.txt
