"""Run the Python blocks of a page as the cells of one notebook; print the page if one fails."""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

text = Path(sys.argv[1]).read_text("utf-8")
blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
with tempfile.TemporaryDirectory() as folder:
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
shown = [output for output in notebook.cells[0].outputs if output.output_type == "display_data"]
if not any("2 succeeded" in output.data["text/plain"] for output in shown):
    sys.exit(f"{sys.argv[1]}: the first cell shows no progress")
sys.stdout.write(f"{sys.argv[1]}: {len(blocks)} blocks run\n")
