#!/bin/sh
# usage: sh slug.sh <title>
echo "slug: not implemented" >&2
exit 1
