"""Retrieval metrics for integer distances: exact expected values under ties, from per-distance histograms.

Hamming distances tie all the time, and a ranking that leaves ties to a sort depends on the order of the database. Here
a metric is by default its mean over all orders of the tied items, so that shuffling the database changes nothing. The
items at one distance form a tie group; its size and its number of relevant items are all that the formulas need.

There are two ways in. Functions such as `mean_average_precision` take matrices of distances and relevance, a query a
row. `histograms` counts from packed codes and labels and never makes a matrix: a million codes are no trouble; the
methods of the `Histograms` that it returns are the same metrics. `code_diagnostics` looks at the codes alone.
"""

from fasthash.metrics.counting import histograms
from fasthash.metrics.diagnostics import CodeDiagnostics, code_diagnostics
from fasthash.metrics.from_histograms import Histograms, PrecisionRecallCurve, RankCurve
from fasthash.metrics.from_matrices import (
    mean_average_precision,
    mean_average_precision_within,
    precision_at_k,
    precision_recall_by_rank,
    precision_recall_curve,
    precision_within,
    recall_at_k,
)
from fasthash.metrics.from_outputs import mean_average_precision_of_outputs

__all__ = [
    "CodeDiagnostics",
    "Histograms",
    "PrecisionRecallCurve",
    "RankCurve",
    "code_diagnostics",
    "histograms",
    "mean_average_precision",
    "mean_average_precision_of_outputs",
    "mean_average_precision_within",
    "precision_at_k",
    "precision_recall_by_rank",
    "precision_recall_curve",
    "precision_within",
    "recall_at_k",
]
