"""From the command line to what is asked of a run."""

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
