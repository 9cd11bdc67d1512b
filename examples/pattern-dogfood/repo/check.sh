#!/bin/sh
# The project's check. Red until slug.sh is right.
set -eu
red=0
expect() { # title, slug
    found=$(sh slug.sh "$1" 2>&1) || true
    if [ "$found" = "$2" ]; then
        echo "check: green: $1"
    else
        echo "check: red: \"$1\" gives \"$found\", not \"$2\""
        red=1
    fi
}
expect "Release notes" "release-notes"
expect "C++ and Rust" "c-and-rust"
expect "What now?" "what-now"
exit "$red"
