#!/bin/sh
# Puts the sums together, and says when some are missing.
set -eu
mkdir -p outputs
cat inputs/part-* | sort >outputs/report.csv
awk -F, '{ sum += $2 } END { print "total," sum }' outputs/report.csv >total
cat total >>outputs/report.csv
rm total
case $PANGOLIN_INPUT_JSON in
    *'"missing"'*) echo "incomplete: $PANGOLIN_INPUT_JSON" >>outputs/report.csv ;;
esac
cat outputs/report.csv
