"""Work on pictures in a few threads, with its results in order."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_MAX_THREADS = 8


def in_order(function: Callable[[S], T], values: Iterable[S]) -> Iterator[T]:
    """Yield `function(value)` of each value in order, computed a few ahead in a thread per core."""
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    waiting: deque[Future[T]] = deque()
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(threads, thread_name_prefix="thumbnails") as pool,
    ):
        warnings.simplefilter("ignore")  # Pillow's: large images and odd metadata are expected
        try:
            for value in values:
                waiting.append(pool.submit(function, value))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            yield from (future.result() for future in waiting)
        finally:
            pool.shutdown(cancel_futures=True)
