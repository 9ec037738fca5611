"""`schema`: the JSON Schema of what a person writes or reads."""

import sys
from argparse import Namespace

import orjson

from gemini_batch.cli.json_schema import job_schema, row_schema
from gemini_batch.errors import ExitCode


def main(options: Namespace) -> int:
    """Print a schema to stdout; return the exit code."""
    schema = job_schema() if options.of == "job" else row_schema()
    sys.stdout.write(
        orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    )
    return ExitCode.DONE
