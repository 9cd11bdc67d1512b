#!/bin/sh
# Adds the numbers of one day to the balance of the day before.
set -eu
day=$(printf '%s\n' "$PANGOLIN_INPUT_JSON" | sed -n 's/.*"day"[[:space:]]*:[[:space:]]*"\(day-[0-9]*\)".*/\1/p')
mkdir -p outputs
before=0
[ ! -e inputs/before ] || before=$(cat inputs/before)
awk -v sum="$before" '{ sum += $1 } END { print sum }' "days/${day:?no day in PANGOLIN_INPUT_JSON}.txt" >outputs/balance
echo "$day: $before -> $(cat outputs/balance)"
