"""Flags of `simulate` for files and batches."""

import argparse


def add_batch_flags(parser: argparse.ArgumentParser) -> None:
    """Add the group `batches`."""
    batches = parser.add_argument_group("batches")
    batches.add_argument(
        "--batch-turnaround",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="from the creation of a batch to its end; POST /clock shortens it (default: 30)",
    )
    batches.add_argument(
        "--batch-tokens",
        type=int,
        metavar="N",
        help="input tokens of a model in all open batches (default: the model's limit on tier 1)",
    )
