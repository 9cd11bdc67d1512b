#!/bin/sh
# The verify gate. Applies inputs/deps/<item>.patch of every item this one depends on, then runs the check.
# Works with git or, in a small image, with patch(1).
set -eu

# A repository above the workspace must not change what `git apply` does.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
export GIT_CEILING_DIRECTORIES

applied=0
for patch in inputs/deps/*.patch; do
    [ -f "$patch" ] || continue
    echo "verify: applying $patch"
    if command -v git >/dev/null 2>&1; then
        git apply "$patch"
    else
        patch -p1 <"$patch"
    fi
    applied=$((applied + 1))
done
if [ "$applied" -eq 0 ]; then
    echo "verify: no patch in inputs/deps; nothing to verify" >&2
    exit 2
fi
echo "verify: $applied patches applied, running check.sh"
exec sh check.sh
