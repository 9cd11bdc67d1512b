#!/bin/sh
# The sum of one region. A line that is not a sale is an error and not a zero.
set -eu
mkdir -p outputs
awk -F, '
    $3 !~ /^[0-9]+$/ { print "map: line " NR ": " $3 " is not an amount" > "/dev/stderr"; exit 3 }
    { region = $1; sum += $3 }
    END { if (region != "") print region "," sum }
' inputs/input >sum.csv
mv sum.csv outputs/result
cat outputs/result
