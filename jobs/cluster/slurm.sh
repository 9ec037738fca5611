#!/bin/sh
# SLURM: one task of the array is one worker.
#
#     sbatch slurm.sh JOBS.jsonl [flags of `gemini-batch run`]
#
# The folder of the manifest is on a file system that all nodes see, with file locks (NFSv4, Lustre with -o flock). The key is read from
# ~/.config/gemini_batch/key.env. Nodes share the quota, and --max-cost, through GEMINI_BATCH_LEDGER, a PostgreSQL.
#
# A node that fails: SLURM requeues its task, which finishes what the killed one left. `scancel` lets calls in flight come to their end.
# Another number of tasks may continue: sbatch --array=1-4 slurm.sh JOBS.jsonl
#SBATCH --job-name=gemini-batch
#SBATCH --array=1-16
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=gemini-batch-%A-%a.log
# An answer takes up to 300 s: it is awaited before the time is over.
#SBATCH --signal=B:TERM@330
set -u

if [ $# -eq 0 ]; then
    echo 'usage: sbatch slurm.sh JOBS.jsonl [flags of gemini-batch run]' >&2
    exit 2
fi

# It takes the place of the shell, so that the signal reaches it.
exec "${GEMINI_BATCH:-gemini-batch}" run "$@" --shard auto
