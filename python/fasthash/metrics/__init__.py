"""Retrieval metrics for integer distances: exact expected values under ties, from per-distance histograms.

Hamming distances have many ties, and a sort that breaks ties by position makes a metric depend on the order of the
gallery. By default a metric here is its mean over all orders of tied items, so shuffling the gallery changes nothing.
The items at one distance form a tie group; the formulas need only its size and its number of relevant items.

Functions such as `mean_average_precision` take matrices of distances and relevance, with one row for each query.
`histograms` counts from packed codes and labels without such matrices, also for millions of codes; the methods of its
`Histograms` are the same metrics. `code_diagnostics` needs only the codes.
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
