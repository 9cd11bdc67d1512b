#!/bin/sh
# usage: sh tools/apply.sh <patch>    applies a patch that was handed over; with git or, in a small image, patch(1)
set -eu
# A repository above the workspace must not change what `git apply` does.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
export GIT_CEILING_DIRECTORIES
if command -v git >/dev/null 2>&1; then
    git apply "$1"
else
    patch -p1 <"$1"
fi
echo "applied $1"
