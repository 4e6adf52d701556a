"""Parts of encoded images that the disk refuses."""

import errno
import os

import numpy as np
import pytest

from fasthash.distributed.parts import EncodedPart, EncodedParts

PART = EncodedPart(np.zeros((2, 1), np.uint8), ["a", "b"], [("c", "broken")])


def test_a_full_disk_is_named_and_leaves_no_draft(tmp_path, monkeypatch):
    parts = EncodedParts.begin(tmp_path, {"level_bits": [8], "source": "photos", "n_parts": 2, "unreadable": []})
    parts.write(0, PART)
    before = sorted(tmp_path.iterdir())

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*part-000001\.tmp'$"):
            parts.write(1, PART)
    assert sorted(tmp_path.iterdir()) == before
    assert parts.missing == [1]
    parts.write(1, PART)
    assert [part.keys for part in parts] == [["a", "b"]] * 2
