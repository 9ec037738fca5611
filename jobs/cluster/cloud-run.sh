#!/bin/sh
# Cloud Run Jobs: each task is one worker.
#
#     cloud-run.sh IMAGE NFS_SERVER:/SHARE WORKERS [flags of `gemini-batch run`]
#
# Without a share, --out may be a bucket (s3://…), whose credentials come from secrets as well; the manifest may be there, too.
#
# Creates or updates the job `gemini-batch`, and starts it. The manifest is SHARE/jobs.jsonl, on NFS (Filestore): a bucket that is mounted
# has no file locks. The secrets gemini-api-key and gemini-batch-ledger, a postgresql:// URL, are in Secret Manager.
#
# Ten seconds after SIGTERM Cloud Run ends a task: what is in flight then is paid for and lost. So no call is started in the last five
# minutes of the task's time; run the job again to continue, with any number of workers.
set -eu

if [ $# -lt 3 ]; then
    echo 'usage: cloud-run.sh IMAGE NFS_SERVER:/SHARE WORKERS [flags of gemini-batch run]' >&2
    exit 2
fi

image=$1 share=$2 workers=$3
shift 3
timeout_s=86400
args=run,/data/jobs.jsonl,--shard,auto,--deadline,$((timeout_s - 330)),--log-format,json
for flag in "$@"; do
    args=$args,$flag
done

gcloud run jobs deploy gemini-batch \
    --image "$image" \
    --tasks "$workers" \
    --parallelism "$workers" \
    --max-retries 3 \
    --task-timeout "${timeout_s}s" \
    --cpu 1 \
    --memory 1Gi \
    --command gemini-batch \
    --args "$args" \
    --set-secrets GEMINI_API_KEY=gemini-api-key:latest,GEMINI_BATCH_LEDGER=gemini-batch-ledger:latest \
    --add-volume "name=data,type=nfs,location=$share" \
    --add-volume-mount volume=data,mount-path=/data \
    --execute-now
