#!/bin/sh
# test.sh - from a fresh clone to a verdict: installs what is missing, builds, runs every test.
# Usage:  deploy/test.sh [ctest arguments, e.g. -R e2e or -L unit]
# Skipped tests are those whose data is not on this machine: reference files (MUSTER_FIXTURES,
# MUSTER_DATA) and the chat model that deploy/get-model.sh fetches.
set -eu
cd "$(dirname "$0")/.."
started=$(date +%s)

deploy/deps.sh
cmake --preset release
cmake --build build --parallel "$(nproc)"

log=build/test.log
rc_file=build/test.rc
# sh has no PIPESTATUS, and the verdict is ctest's, not tee's.
{
    rc=0
    ctest --test-dir build --parallel "$(nproc)" --output-on-failure "$@" 2>&1 || rc=$?
    echo "$rc" > "$rc_file"
} | tee "$log"
rc=$(cat "$rc_file")

passed=$(grep -c ' Passed ' "$log" || true)
skipped=$(grep -c '\*\*\*Skipped ' "$log" || true)
failed=$(grep -cE '\*\*\*(Failed|Timeout|Exception|Not Run)' "$log" || true)
echo
echo "muster tests: $passed passed, $skipped skipped, $failed failed," \
     "in $(($(date +%s) - started)) s with the build"
if [ "$rc" = 0 ] && [ "$passed" -gt 0 ]; then
    echo "muster tests: OK"
else
    echo "muster tests: FAILED (the log is $log)"
    exit 1
fi
