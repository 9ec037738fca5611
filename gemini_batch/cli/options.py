"""From the command line to what is asked of a run, and to the folder that a command looks at."""

import shlex
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.errors import ConfigError
from gemini_batch.output.rows import FILE_NAME

if TYPE_CHECKING:  # `status`, `verify` and `gallery` need neither settings nor a plan
    from gemini_batch.config.run_config import RunConfig


def run_config(options: Namespace) -> "RunConfig":
    """Return what the arguments of `run` or `plan` ask for; the flags are named as the fields are."""
    from gemini_batch.config.run_config import RunConfig

    given = {name: getattr(options, name, None) for name in RunConfig.model_fields}
    return RunConfig(**{name: value for name, value in given.items() if value is not None})


def output_folder(options: Namespace) -> Path:
    """Return where a run writes: `--out`, else beside the manifest, never the current folder."""
    from gemini_batch.plan import build

    return options.out or build.output_folder(options.manifest, is_simulated=options.simulate)


def folder_of_rows(options: Namespace) -> Path:
    """Return the output folder that was named.

    Raises:
        ConfigError: No run has written there.
    """
    out: Path = options.out
    if not (out / FILE_NAME).exists():
        raise ConfigError(
            f"{out}: has no {FILE_NAME}; name the output folder of a run, such as jobs.out"
        )
    return out


def program() -> str:
    """Return this program as it was called: a command that we print is to work where the person copies it, with or without a PATH to us."""
    called = Path(sys.argv[0])
    if called.name == "gemini-batch":
        return called.name if shutil.which(called.name) == str(called) else shlex.quote(str(called))
    is_module = called.name == "__main__.py" and called.parent.name == "gemini_batch"
    return shlex.join([sys.orig_argv[0] if is_module else "python", "-m", "gemini_batch"])
