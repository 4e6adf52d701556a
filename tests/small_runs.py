"""Trainings of moments for tests of the command line: a small data set in place of the digits, and commands to run.

Imports the extras `train` and `cli`: import it after `pytest.importorskip`.
"""

import numpy as np
from typer.testing import CliRunner

from fasthash import _experiment
from fasthash.cli import app
from fasthash.data import ImageSet, Split

__all__ = ["flags", "put_few_digits", "run"]


def put_few_digits(monkeypatch, n, n_queries):
    """Replace the digits by `n` images of three classes, of which the first `n_queries` are queries."""

    def few(seed=0, transform=None):
        rng = np.random.default_rng(0)  # the images are the same for every seed, as the digits are
        labels = np.arange(n) % 3
        images = [np.full((8, 8), 80 * label, np.uint8) + rng.integers(0, 60, (8, 8), np.uint8) for label in labels]
        everything = ImageSet(images, labels, "abc", transform)
        query = np.arange(n) < n_queries
        return Split(everything.subset(~query), everything.subset(~query), everything.subset(query), "few.", seed=seed)

    monkeypatch.setattr(_experiment, "load_digits", few)


def run(*arguments):
    """Run a command; return its exit code and output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def flags(**settings):
    """Settings as options of a command."""
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
