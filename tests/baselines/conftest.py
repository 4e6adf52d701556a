"""What tests of the baselines share."""

import numpy as np
import pytest


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Matrices this small are no work for two threads, which only wait for each other where the machine is busy."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn, in the extra 'baselines'")
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture
def clusters():
    """A function that makes float64 features `(n, n_features)` around centres, one for each class, and int64 labels."""

    def make(n=300, n_features=20, n_classes=5, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.integers(n_classes, size=n)
        centres = rng.normal(size=(n_classes, n_features))
        stretch = np.linspace(2, 0.2, n_features)
        return (centres[labels] + rng.normal(size=(n, n_features))) * stretch + 0.7, labels

    return make
