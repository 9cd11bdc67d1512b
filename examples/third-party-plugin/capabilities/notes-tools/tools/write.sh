#!/bin/sh
set -eu
echo "second note" >>notes.txt
echo "write: one line"
