#!/usr/bin/env bash
# What the Comfy Registry checks before it publishes: `comfy node validate`, in an environment of
# its own. Its warnings count as errors here.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.23.0
environment=.cache/comfy-cli-$version
comfy() { # With a home of its own, because it writes a configuration there.
  HOME=$PWD/$environment DO_NOT_TRACK=1 "$environment/bin/comfy" --skip-prompt "$@" 2>&1
}
# An environment no longer runs once the Python that made it, or the repository, has moved.
if [ ! -f "$environment/installed" ] || ! comfy --version >/dev/null; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --no-compile "comfy-cli==$version"
  touch "$environment/installed"
fi
output=$(comfy node validate) || { echo "$output"; exit 1; }
echo "$output"
! grep -qi warning <<<"$output"
