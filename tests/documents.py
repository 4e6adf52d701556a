"""The Python examples of a document, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_blocks(name):
    """The Python blocks of a document of the repository, as text."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def run(code, folder):
    """What some code prints, run by a Python of its own."""
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    return result.stdout
