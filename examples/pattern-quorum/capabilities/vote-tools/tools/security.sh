#!/bin/sh
# Red when the service can be reached from other machines.
grep -q '^listen = 127\.0\.0\.1:' service.conf || { echo "security: not on the loopback interface"; exit 1; }
