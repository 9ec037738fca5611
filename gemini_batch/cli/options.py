"""From the command line to what is asked of a run."""

import shlex
import shutil
import sys
from argparse import Namespace
from pathlib import Path

from gemini_batch import planning
from gemini_batch.config import RunConfig


def run_config(options: Namespace) -> RunConfig:
    """Return what the arguments of `run` or `plan` ask for; the flags are named as the fields are."""
    given = {name: getattr(options, name, None) for name in RunConfig.model_fields}
    return RunConfig(**{name: value for name, value in given.items() if value is not None})


def output_folder(options: Namespace) -> Path:
    """Return where a run writes: `--out`, else beside the manifest, never the current folder."""
    return options.out or planning.output_folder(options.manifest, is_simulated=options.simulate)


def program() -> str:
    """Return this program as it was called: a command that we print is to work where the person copies it, with or without a PATH to us."""
    called = Path(sys.argv[0])
    if called.name == "gemini-batch":
        return called.name if shutil.which(called.name) == str(called) else shlex.quote(str(called))
    is_module = called.name == "__main__.py" and called.parent.name == "gemini_batch"
    return shlex.join([sys.orig_argv[0] if is_module else "python", "-m", "gemini_batch"])
