#!/bin/sh
# First time: a change that works on the author's machine. Afterwards (change~2): the fixed work, which is `work`.
set -eu
if [ -e inputs/work ]; then
    sh tools/apply.sh inputs/work
    exit 0
fi
cat >service.conf <<'END'
listen = 0.0.0.0:8080
retries = 5
timeout = 30
END
echo "author: raised retries, and listens everywhere"
