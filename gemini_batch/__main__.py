"""`python -m gemini_batch`."""

import sys

from gemini_batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
