"""Real codes and photos: small cuts in tests/fixtures/real, and more in ../shared/data where that is at hand."""

from pathlib import Path

import numpy as np
import pytest

CUTS = Path(__file__).parent / "fixtures" / "real"
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def cut(name):
    """The arrays of a file of the repository."""
    with np.load(CUTS / name, allow_pickle=False) as arrays:
        return dict(arrays)


def shared(*names):
    """Path of a file in ../shared/data, or the test is skipped."""
    path = SHARED.joinpath(*names)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(names)} in ../shared/data")
    return path
