#!/bin/sh
# GNU parallel: several workers on this machine, or with PARALLEL='--sshloginfile hosts.txt' on others.
#
#     parallel.sh WORKERS JOBS.jsonl [flags of `gemini-batch run`]
#
# One worker uses up any quota that is published; several help where pictures are large, or where machines are there anyway. The exit code
# is that of the worst worker, as in the README. Run it again to continue, with any number of workers.
set -u

if [ $# -lt 2 ]; then
    echo 'usage: parallel.sh WORKERS JOBS.jsonl [flags of gemini-batch run]' >&2
    exit 2
fi

workers=$1
shift
log=$(mktemp) || exit 8
trap 'rm -f "$log"' EXIT

# The run has the name PARALLEL_PID, as for --max-cost. A flag with a space is quoted.
seq "$workers" | parallel --max-replace-args 1 --jobs "$workers" --line-buffer --tag --joblog "$log" --quote \
    "${GEMINI_BATCH:-gemini-batch}" run "$@" --shard "{}/$workers"

# Column 7 has the exit code of each worker, column 8 the signal that ended one.
for code in 1 130 143 8 6 2 3 7 5 4; do
    if awk -v code="$code" 'NR > 1 && ($8 ? 128 + $8 : $7) == code { found = 1 } END { exit !found }' "$log"; then
        exit "$code"
    fi
done
awk 'NR > 1 && ($7 || $8) { exit 1 }' "$log"
