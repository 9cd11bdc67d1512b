#!/bin/sh
# Takes the work and the findings of the reviewers who did not approve.
set -eu
sh tools/apply.sh inputs/work
cat inputs/findings-*
if grep -q 'listens on every interface' inputs/findings-*; then
    sed 's/^listen = 0\.0\.0\.0/listen = 127.0.0.1/' service.conf >service.new
    cat service.new >service.conf
    rm service.new
fi
