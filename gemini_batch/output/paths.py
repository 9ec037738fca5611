"""Names of the files and folders in an output folder. No other module spells them.

::

    OUT/results.jsonl       one row per finished call; the newest row of an id counts
    OUT/summary.json        the last run
    OUT/runs.jsonl          one line per run
    OUT/marks.jsonl         the user's picks, discards and ratings; the newest of a picture counts
    OUT/followups.jsonl     jobs that edit pictures of this folder, as notes of the review say
    OUT/followups/…         these pictures, by their SHA-256
    OUT/gallery.html        the page of the `gallery` command
    OUT/images/…            the image of each call, named by its id
    OUT/drafts/…            interim images that came with an answer; they were paid for as well
    OUT/superseded/…        images that were made again, or pruned, and answers that came late
    OUT/shards/…            output folders of the workers of `--shard`, see `output.shards`
    OUT/.gemini_batch/      internal files, of no use to the user
        lock                held by the run that writes into the folder
        inflight.jsonl      the in-flight log
        incoming/           staged files, and journaled answers
        durable             the durable size of results.jsonl in bytes
        unreadable/         answers that could not be understood, as they came
        inputs/             downscaled input images
        thumbnails/         thumbnails of the gallery
        torn-results.N      the end of a damaged results.jsonl, set aside by recovery
        rescued-results.N   rows of a run whose results.jsonl was replaced; the next run adds them
        set-aside/          answers that could not be processed twice
        bucket.json         the bucket that this folder is the scratch folder of
        view/               rows of all workers, while a run with a bucket lasts
        plan.snapshot       what was planned of a large manifest, for the next run
        batches/UUID/       a batch that is open: lines.jsonl, its calls, and batch.json, its state
        sealed              there once a newer generation of workers has taken over
"""

import os
from pathlib import Path

from gemini_batch.records import ids, media_types

RESULTS = "results.jsonl"
SUMMARY = "summary.json"
RUNS = "runs.jsonl"
MARKS = "marks.jsonl"
FOLLOWUPS = "followups"
GALLERY = "gallery.html"
IMAGES = "images"
DRAFTS = "drafts"
SUPERSEDED = "superseded"
SHARDS = "shards"
# In SHARDS, and in one of its generations:
START_LOCK = "lock"
ADOPTED = "adopted"
COUNTED_BY = "counted-by"

PRIVATE = ".gemini_batch"
# In PRIVATE:
LOCK = "lock"
IN_FLIGHT = "inflight.jsonl"
INCOMING = "incoming"
DURABLE = "durable"
UNREADABLE = "unreadable"
INPUTS = "inputs"
THUMBNAILS = "thumbnails"
TORN_RESULTS = "torn-results"
RESCUED_RESULTS = "rescued-results"
SET_ASIDE = "set-aside"
BATCHES = "batches"
BUCKET = "bucket.json"
VIEW = "view"
RESTORED_RESULTS = "restored-results"
SEALED = "sealed"
JOINED = "joined-budget"
SNAPSHOT = "plan.snapshot"
# In BATCHES: appended to the name of a folder that is being removed.
REMOVED_SUFFIX = ".gone"
# In a folder of BATCHES:
BATCH_LINES = "lines.jsonl"
BATCH_NOTE = "batch.json"
# In INCOMING: a journaled answer; one whose processing ended a run, or two; an image whose call has
# an earlier one, which must be durable in SUPERSEDED first.
ANSWER_SUFFIX = ".answer"
TRIED_SUFFIX = ".tried"
TRIED_AGAIN_SUFFIX = ".tried-again"
LATE_SUFFIX = ".late"
# In INCOMING: what of an answer is not an image and too large for memory.
ASIDE_SUFFIX = ".aside"


def has_batches(out: Path) -> bool:
    """Return whether the folder has notes of batches."""
    try:
        with os.scandir(out / f"{PRIVATE}/{BATCHES}") as entries:
            return not all(each.name.endswith(REMOVED_SUFFIX) for each in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def id_of_image(path: str) -> str:
    """Return the id of the call that an image is named by; "" if it is named by none."""
    stem, dot, extension = path.rpartition(".")
    is_image = dot + extension in media_types.ALL_EXTENSIONS
    return ids.normal(stem) if is_image else ""
