#!/bin/sh
# Red when the keys are not in order.
sort -c service.conf || { echo "style: keys are not in order"; exit 1; }
