"""Settings of all tests: rings as markers, and temporary folders in memory where possible."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

_TESTS = Path(__file__).parent
_REAL_DISK = tempfile.gettempdir()
_MEMORY = Path("/dev/shm")
_SIMULATOR = _TESTS / "loopback/simulator"
_RINGS = {"loopback", "torture", "browser"}
_WAY_TO_SERVERS = (
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)
_LONG_FIRST = ("loopback", "virtual")

if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# Without compiled files each of the many processes that tests start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# aiohttp parses all certificates of the machine at its import, a run those that the environment
# names, and Pydantic asks each installed package for a plugin: a third of the time of many tests. No
# test needs them: the one certificate is of an authority whose key nobody has.
for _name in _WAY_TO_SERVERS:
    os.environ.pop(_name, None)
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

# A busy machine takes longer for an example than the default of 200 ms. `.ci/run` runs all properties
# once more with `--hypothesis-profile long`.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=20)
hypothesis.settings.register_profile("long", deadline=None, max_examples=300)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return an empty folder: on the disk for tests of durability (`real_disk`), else in memory."""
    if request.node.get_closest_marker("real_disk"):
        folder = Path(tempfile.mkdtemp(prefix="gemini_batch-", dir=_REAL_DISK))
    else:
        folder = tmp_path_factory.mktemp("test")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what `-m` excludes, a ring or the slow tests: its files need not be imported."""
    wanted = str(config.option.markexpr)
    if "not slow" in wanted and _is_slow(collection_path):
        return True
    if collection_path.parent != _TESTS or collection_path.name not in _RINGS:
        return None
    excludes = f"not {collection_path.name}" in wanted
    return True if excludes or wanted in _RINGS - {collection_path.name} else None


def _is_slow(path: Path) -> bool:
    """Return whether a file, or all of a folder, is of slow tests."""
    if path.is_dir():
        return path == _SIMULATOR
    return path.suffix == ".py" and "pytest.mark.slow" in path.read_text("utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist give out the files as they are ordered below, not those with most tests first.

    Of torture the kills take longest, and are many.
    """
    config.option.loadscopereorder = config.option.markexpr == "torture"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the ring whose folder it is in; the rings whose files take long go first."""
    depth = len(_TESTS.parts)
    for item in items:
        ring = item.path.parts[depth]
        if ring in _RINGS:
            item.add_marker(ring)
        if _SIMULATOR in item.path.parents:
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.parts[depth] not in _LONG_FIRST)


def pytest_collection_finish() -> None:
    """Keep what was collected out of the garbage collector's way: it lives to the end anyway."""
    gc.collect()
    gc.freeze()
