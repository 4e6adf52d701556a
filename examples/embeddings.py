"""Text to embeddings to an index of their signs and vectors, and how much of the exhaustive search it finds.

The texts are the documentation of Python's standard library, the embeddings its latent semantic analysis: real text and
no model to fetch. With sentence-transformers, `model.encode(texts)` takes the place of `embed`.

Run it with `python examples/embeddings.py`; it needs scikit-learn, and a few seconds.
"""

import importlib
import inspect
import tempfile

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import fasthash as fh

MODULES = """argparse ast asyncio base64 bisect calendar codecs collections configparser contextlib copy csv dataclasses
datetime decimal difflib dis email enum fractions functools glob gzip hashlib heapq hmac html http.client importlib.util
inspect io ipaddress itertools json logging mailbox math mimetypes multiprocessing numbers operator os pathlib pickle
platform plistlib pprint queue random re sched secrets select selectors shelve shlex shutil signal smtplib socket stat
statistics string struct subprocess tarfile tempfile textwrap threading time timeit tokenize trace traceback unittest
urllib.parse urllib.request uuid warnings wave weakref zipfile zlib""".split()  # noqa: SIM905


def documentation():
    """Name and text of every class, method and function that says something of itself."""
    texts = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for place in [module, *(item for _, item in inspect.getmembers(module, inspect.isclass))]:
            prefix = name if place is module else f"{name}.{place.__name__}"
            for part, item in inspect.getmembers(place, callable):
                text = getattr(item, "__doc__", None)
                if isinstance(text, str) and len(text) > 60 and not part.startswith("_"):
                    texts.setdefault(text, f"{prefix}.{part}")
    return list(texts.values()), list(texts)


names, texts = documentation()
embed = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, stop_words="english", max_features=3000),
    TruncatedSVD(128, n_iter=2, random_state=0),
)
embeddings = embed.fit_transform(texts)
embed_queries = embed.transform
centre = embeddings.mean(axis=0)  # signs tell most where the numbers lie around 0

# Codes of the first 64 and of all 128 dimensions; vectors of one byte a dimension.
index = fh.RescoringIndex(128, dtype="int8", level_bits=(64, 64))
index.add(embeddings - centre)

with tempfile.TemporaryDirectory() as folder:
    index.save(folder)
    index = fh.RescoringIndex.load(folder)  # the vectors stay in their file, mapped
    print(f"{len(index)} texts, {index.nbytes / len(index):.0f} bytes of memory each")

    for question in ["compress a file", "parse command line arguments", "days between two dates"]:
        found = index.search(embed_queries([question]) - centre, k=3)
        answers = (f"{names[id]} {score:.2f}" for score, id in zip(found.scores[0], found.ids[0], strict=True))
        print(f"{question}: {', '.join(answers)}")

    queries = embeddings[::20] - centre
    exhaustive = index.search(queries, k=10, rescore_multiplier=len(index)).ids
    for multiplier in (1, 4, 16):
        found = index.search(queries, k=10, rescore_multiplier=multiplier).ids
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(exhaustive, found, strict=True)])
        print(f"rescore_multiplier={multiplier}: recall@10 {recall:.3f}")
