#!/usr/bin/env bash
# What the Comfy Registry checks before it publishes: `comfy node validate`, in an environment of
# its own. Its warnings count as errors here.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.23.0
environment=.cache/comfy-cli-$version
if [ ! -f "$environment/installed" ]; then
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --no-compile "comfy-cli==$version"
  touch "$environment/installed"
fi
# A home of its own, for it writes a configuration there.
output=$(HOME=$PWD/$environment DO_NOT_TRACK=1 \
  "$environment/bin/comfy" --skip-prompt node validate 2>&1) || { echo "$output"; exit 1; }
echo "$output"
! grep -qi warning <<<"$output"
