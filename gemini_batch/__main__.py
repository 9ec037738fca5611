"""`python -m gemini_batch`."""

import sys

from gemini_batch.cli import process as main

if __name__ == "__main__":
    sys.exit(main())
