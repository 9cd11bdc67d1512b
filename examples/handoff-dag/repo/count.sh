#!/bin/sh
# usage: sh count.sh <file>    how many lines are not empty
set -eu
. lib/count.sh
count_lines "$1"
