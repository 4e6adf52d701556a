"""The Python examples of a document, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_blocks(name):
    """The Python blocks of a document of the repository, as text."""
    return _blocks(name, "python")


def text_blocks(name):
    """The blocks that show what the Python blocks print."""
    return _blocks(name, "text")


def _blocks(name, language):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run(code, folder, *arguments):
    """What some code prints, run by a Python of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=250
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
