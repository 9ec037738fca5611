"""Marks of a review that go to the bucket as well, each as a segment of its own."""

import time
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import orjson

from gemini_batch.output.bucket import layout
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.store.base import ImageStore


class BucketMarks(Marks):
    """The marks of a bucket, in the copy of it that is reviewed."""

    def __init__(self, out: Path, store: ImageStore) -> None:
        super().__init__(out)
        self._store = store

    def set(self, mark: Mark) -> None:
        """Write a mark to the bucket, and into the copy.

        Raises:
            StorageError: The bucket can't be used; the earlier mark counts there.
            OSError: The disk refused.
        """
        super().set(mark)
        newest = self.of(mark.id, mark.sha256)
        # In the order of names the newest counts; two reviews at once differ by more than a name.
        name = layout.mark(time.time_ns(), uuid4().hex[:8])
        self._store.create(name, orjson.dumps(asdict(newest)) + b"\n")
