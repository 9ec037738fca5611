"""The descriptions and examples in the help of each command."""

ABOUT = """\
Batch generation with the Gemini image API. Paid answers are never lost, quotas never exceeded.

examples:
  gemini-batch run jobs.jsonl --simulate     try it with a simulator: no key, no cost
  gemini-batch plan jobs.jsonl               check every line; calls, cost and time; sends nothing
  gemini-batch run jobs.jsonl --tier free    send what is not done yet; needs GEMINI_API_KEY
  gemini-batch gallery jobs.out              write a page that shows all pictures
"""
RUN = """\
Send all calls that are not done yet. It is always safe to repeat the command: it continues where
the last run stopped.

examples:
  gemini-batch run jobs.jsonl --tier free
  gemini-batch run jobs.jsonl --simulate          the same without key and cost
  gemini-batch run jobs.jsonl --limit 3           the first three calls, to look at them
  gemini-batch run jobs.jsonl --tier pay-as-you-go --max-cost 20
  gemini-batch run nightly.jsonl --quiet          for cron: silent unless action is required
  gemini-batch run jobs.jsonl --retry blocked     send blocked calls once more
  gemini-batch run jobs.jsonl --route batch       half the price; the same command later collects
"""
RAY = """\
Run a manifest by several workers on a Ray cluster, into one output folder. Ray starts each worker
on any node, and restarts it on another one when its node fails. Needs gemini_batch[ray] on all
nodes, a folder that all of them see, and the key in their environment. It is safe to repeat the
command, with any number of workers.

examples:
  gemini-batch ray jobs.jsonl --shards 16 --address auto --tier tier-3
  gemini-batch ray jobs.jsonl --shards 4 --simulate     on this machine, to try it
"""
PLAN = """\
Check every line of a manifest, and show the calls, tokens, cost and time of a run. Sends and writes
nothing.

examples:
  gemini-batch plan jobs.jsonl
  gemini-batch plan jobs.jsonl --tier pay-as-you-go --json
"""
EXPAND = """\
Write a manifest to stdout: each line of the template with the values of each row of a table. A
line may have lists of its own, and is combined with all their values:
{"id": "{sku}-{style}", "prompt": "{name}, {style}", "vars": {"style": ["ink", "pixel art"]}}
The values are kept in the metadata of the job. Nothing inside a raw request is replaced.

examples:
  gemini-batch expand template.jsonl --vars products.csv > jobs.jsonl
  gemini-batch expand template.jsonl --vars lists.csv --product > jobs.jsonl
  gemini-batch expand template.jsonl | gemini-batch plan - --out pictures.out
"""
STATUS = """\
Show the contents of an output folder: calls by status, tokens, cost, and missing images.

example:
  gemini-batch status jobs.out
"""
BATCHES = """\
List the batches whose calls wait for an answer, as the last run saw them; asks no server. With
--cancel the server is asked to end them, and the next run collects what they answered and sends the
rest. A batch that was made with another key is given up: what it answers may be billed, and its
calls are sent again. A run cancels a batch by itself once it is older than --batch-patience.

examples:
  gemini-batch batches jobs.out
  gemini-batch batches jobs.out --cancel
"""
COSTS = """\
Show what answers cost at list price, superseded ones included. Days are local days; runs and their
manifests are those of runs.jsonl.

examples:
  gemini-batch costs
  gemini-batch costs jobs.out --by model
"""
VERIFY = """\
Verify an output folder: the size and SHA-256 of every image against its row, images without a row,
and the totals of summary.json. Exits with 0 if there are no problems, else with 4.

example:
  gemini-batch verify jobs.out
"""
GALLERY = """\
Write gallery.html next to the images: one page to view, filter and compare all calls, offline. It
links the images; with --embed it is one file that can be mailed, as long as it has at most 18 MB.

examples:
  gemini-batch gallery jobs.out
  gemini-batch gallery jobs.out --embed
"""
REVIEW = """\
Open the gallery from a server on this machine: pick, discard and rate pictures by keys, also while
a run is in progress. Marks are saved at once in marks.jsonl. A note on a picture adds a job
that edits it to the manifest followups.jsonl. The address has a secret token: everyone who knows it
can set marks.

examples:
  gemini-batch review jobs.out
  gemini-batch export jobs.out --to chosen.zip --picked
"""
EXPORT = """\
Copy the newest picture of each call, unchanged and under its own name, to a new folder or ZIP file,
with their prompts, sizes, costs and metadata in index.csv. Exits with 4 if pictures are missing.

examples:
  gemini-batch export jobs.out --to chosen.zip --picked
  gemini-batch export jobs.out --to all
"""
PRUNE = """\
Move the pictures of calls that are no longer in the manifest to superseded/. Their rows stay
in results.jsonl, but status, verify and gallery ignore them; nothing is deleted. If a line
comes back, the next run takes its picture from superseded/ at no cost. Refuses a folder whose runs
had several manifests.

examples:
  gemini-batch prune jobs.out
  gemini-batch prune jobs.out --manifest renamed.jsonl --yes
"""
QUOTA = """\
Show the usage of each quota by all runs on this machine, what is left, and when it resets.

examples:
  gemini-batch quota
  gemini-batch quota --json
"""
DOCTOR = """\
Show what a run with these flags would use: key or login, server, proxy, certificates, limits and
ledger. Ask the server for the model (models.get; on Vertex AI countTokens), which costs nothing.
Exits with 0 if a run could send, with 3 if the configuration is wrong, and with 6 if the server
can't be reached or refuses.

examples:
  gemini-batch doctor
  gemini-batch doctor --model gemini-3-pro-image --json
  gemini-batch doctor --vertex my-project/us-central1
"""
SCHEMA = """\
Print the JSON Schema of a manifest line or a result row, for editors and validators.

example:
  gemini-batch schema job > job.schema.json
"""
COMPLETION = """\
Print a script that lets a shell complete commands, flags and file names.

examples:
  gemini-batch completion bash > ~/.local/share/bash-completion/completions/gemini-batch
  gemini-batch completion zsh > "${fpath[1]}/_gemini-batch"
  gemini-batch completion fish > ~/.config/fish/completions/gemini-batch.fish
"""
SIMULATE = """\
Serve a Gemini image API on this machine: strict validation, real images, real 429s, faults on
demand; no key, no cost.

examples:
  gemini-batch simulate --tier free
  gemini-batch simulate --tier free --now 2030-01-31T23:58:00-08:00   two minutes before midnight
  gemini-batch simulate --tier unlimited --latency real --rate 503=0.02 --rate reset=0.01
"""
