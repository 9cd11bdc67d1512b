#!/bin/sh
# A scripted agent that works like a hasty one: it forgets the dash at the end, and leaves a token in a file that
# nobody asked for.
set -eu
cat >slug.sh <<'END'
#!/bin/sh
# usage: sh slug.sh <title>
printf '%s\n' "$1" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9]\{1,\}/-/g'
END
# In two parts, so that this file itself holds nothing that looks like a credential. It is not one, either.
printf 'UPLOAD_TOKEN=%s%s\n' "ghp_" "R7xKq2ZtB9mLw4VdN8cYp3HsJ6fGa1TeUo5W" >upload.env
echo "implement: wrote slug.sh"
