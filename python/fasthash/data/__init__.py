"""Data sets and their splits for retrieval: training set, gallery and queries.

`read_cifar10`, `read_coco`, `read_folder` and `read_image_list` read data sets from disk; `draw_split` splits them by
one of the `PROTOCOLS` of the literature. `load_lists` loads splits that were published as lists; `load_digits` and
`load_folder` load a data set and split it. `audit` lists problems of a split, `Split.save` saves it, and `relevance`
computes from labels which images are relevant to a query.
"""

from __future__ import annotations

from fasthash._extras import needs_extra

# Importing any module of this package runs this file first, so this is the only check that torch is installed.
with needs_extra("train"):
    from fasthash._labels import relevance
    from fasthash.data.auditor import Audit, audit
    from fasthash.data.cifar10 import read_cifar10
    from fasthash.data.coco import read_coco
    from fasthash.data.digits import load_digits
    from fasthash.data.draw import draw_split
    from fasthash.data.folder import load_folder, read_folder
    from fasthash.data.images import ImageSet
    from fasthash.data.lists import load_lists, read_image_list
    from fasthash.data.protocols import PROTOCOLS, Protocol
    from fasthash.data.split import Split

__all__ = [
    "PROTOCOLS",
    "Audit",
    "ImageSet",
    "Protocol",
    "Split",
    "audit",
    "draw_split",
    "load_digits",
    "load_folder",
    "load_lists",
    "read_cifar10",
    "read_coco",
    "read_folder",
    "read_image_list",
    "relevance",
]
