#!/bin/sh
# A scripted agent. Input: $PANGOLIN_INPUT_JSON = {"file":"<name>.ts"}. Edits fixture/<name>.ts in place.
# POSIX sh and sed only, so that it runs in any image.
set -eu

file=$(printf '%s\n' "${PANGOLIN_INPUT_JSON:?is not set; this script runs inside a Pangolin worker}" |
    sed -n 's/.*"file"[[:space:]]*:[[:space:]]*"\([a-z]*\.ts\)".*/\1/p')
path="fixture/$file"
if [ -z "$file" ] || [ ! -f "$path" ]; then
    echo "agent: workerInput names no file of fixture/: $PANGOLIN_INPUT_JSON" >&2
    exit 2
fi

echo "agent: reading $path"
# Stands for a model's thinking time, so that `orch watch` has something to show.
sleep 1

case $file in
    alpha.ts) body='return slug(title) + "-" + String(id);' ;;
    beta.ts) body='return words.map((word) => slug(word)).join("/");' ;;
    shared.ts) body='return text.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");' ;;
    *)
        echo "agent: do not know how to write $path" >&2
        exit 2
        ;;
esac

if ! grep -q 'throw new Error("not implemented");' "$path"; then
    echo "agent: nothing to do in $path" >&2
    exit 3
fi
# `#` delimits because the bodies contain slashes; `\`, `&` and `#` must not be taken for sed syntax.
escaped=$(printf '%s\n' "$body" | sed 's/[\\&#]/\\&/g')
sed "s#throw new Error(\"not implemented\");#$escaped#" "$path" >"$path.new"
# cat keeps the file's mode and identity; mv would not.
cat "$path.new" >"$path"
rm "$path.new"
echo "agent: implemented the function in $path"
