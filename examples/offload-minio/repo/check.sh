#!/bin/sh
# The project's check: every function is there and implemented. Red before the three edits, green after.
# usage: sh check.sh [file...]   default: all three
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- alpha.ts beta.ts shared.ts

red=0
expect() { # file, text that must be in it
    if ! grep -qF -- "$2" "fixture/$1"; then
        echo "check: red: fixture/$1 lacks: $2"
        red=1
    fi
}
for file in "$@"; do
    before=$red
    case $file in
        alpha.ts) expect alpha.ts 'export function pageId(' && expect alpha.ts 'return slug(title)' ;;
        beta.ts) expect beta.ts 'export function pagePath(' && expect beta.ts 'return words.map(' ;;
        shared.ts) expect shared.ts 'export function slug(' && expect shared.ts '.toLowerCase()' ;;
        *)
            echo "check: no rule for $file" >&2
            exit 2
            ;;
    esac
    if grep -qF 'not implemented' "fixture/$file"; then
        echo "check: red: fixture/$file still throws \"not implemented\""
        red=1
    fi
    [ "$red" -ne "$before" ] || echo "check: green: fixture/$file"
done
exit "$red"
