"""Print the `sh` code blocks of a Markdown file, each ended by a NUL byte."""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
    sys.stdout.write(f"{block}\0")
