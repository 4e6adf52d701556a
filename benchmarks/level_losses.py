"""Heads on features of a million views: HDHash and HashNet, alone and with terms meant to make codes easy to search.

Called by benchmarks/levels.py. Each head is one linear layer on the features of benchmarks/views.py, trained on views
of the 5,000 training images of the protocol `cifar10-1`. The weight decay sets how far codes of a class lie apart.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

import fasthash as fh
from fasthash import losses
from fasthash.data import ImageSet, draw_split
from fasthash.heads import HashHead
from fasthash.train import train
from views import classes

LEVEL_BITS = (8, 16, 40)
WEIGHTS = (1, 0.5, 0.25)
DECAYS = (0.003, 0.01, 0.03, 0.1)
OF_TERMS = 0.01  # decay of the heads with other terms
SEEDS = (0, 1, 2)
SPREAD, DECORRELATION = "decorrelated bits", 10.0  # of HierarchicalLoss
RECIPE = {"epochs": 20, "batch_size": 128, "lr": 1e-3, "schedule": "cosine", "hash_lr_mult": 1.0}
Term = Callable[[Tensor, Tensor], Tensor]


def _soft_distances(z: Tensor) -> Tensor:
    """Distances of tanh codes, `(B, B)`, as a share of the bits."""
    u = torch.tanh(z)
    return (1 - u @ u.T / u.shape[1]) / 2


def _similar(labels: Tensor) -> Tensor:
    """Pairs of different images of one class."""
    return (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)


def quantisation(z: Tensor, labels: Tensor) -> Tensor:
    """Distance of tanh from -1 and 1: bits of views flip less often."""
    return (1 - torch.tanh(z).abs()).mean()


def balance(z: Tensor, labels: Tensor) -> Tensor:
    """Squared mean of each bit: half of the images on either side."""
    return torch.tanh(z).mean(0).square().mean()


def buckets(z: Tensor, labels: Tensor) -> Tensor:
    """Probability that images of two classes share a node of the first level."""
    u = torch.tanh(z[:, : LEVEL_BITS[0]])
    same_node = ((1 + u[:, None] * u) / 2).prod(-1)
    others = labels[:, None] != labels
    return same_node[others].mean() if others.any() else same_node.sum() * 0


def near(z: Tensor, labels: Tensor) -> Tensor:
    """Distance of the three nearest images of the class: the distance of the k-th neighbour itself."""
    nearest = _soft_distances(z).masked_fill(~_similar(labels), 2).topk(3, largest=False).values
    return nearest.where(nearest <= 1, 0).mean()


def margin(z: Tensor, labels: Tensor) -> Tensor:
    """Distance beyond an eighth of the bits within a class."""
    beyond = (_soft_distances(z) - 0.125).clamp_min(0)
    return (beyond * _similar(labels)).sum() / _similar(labels).sum().clamp_min(1)


def gap(z: Tensor, labels: Tensor) -> Tensor:
    """Distance short of three eighths of the bits between classes."""
    short = (0.375 - _soft_distances(z)).clamp_min(0)
    others = labels[:, None] != labels
    return (short * others).sum() / others.sum().clamp_min(1)


# Terms and the weight of each, of which few values were tried.
TERMS: dict[str, tuple[Term, float]] = {
    "quantisation": (quantisation, 0.3),
    "balanced bits": (balance, 1),
    "nodes of one class": (buckets, 1),
    "near neighbours": (near, 0.3),
    "margin within a class": (margin, 1),
    "gap between classes": (gap, 1),
}


class WithTerm(losses.HashLoss):
    """A loss and a weighted term."""

    def __init__(self, base: losses.HashLoss, term: Term, weight: float) -> None:
        super().__init__()
        self.base, self.term, self.weight = base, term, weight

    def step(self) -> None:
        self.base.step()

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        return self.base(z, labels) + self.weight * self.term(z, labels)


@dataclass(frozen=True)
class Job:
    """A head to train."""

    loss: str  # "HDHash" or "HashNet"
    decay: float
    seed: int
    term: str = ""  # "", SPREAD, or one of TERMS

    @property
    def name(self) -> str:
        return f"{self.loss}, {self.term}" if self.term else self.loss

    @property
    def level_bits(self) -> tuple[int, ...]:
        return LEVEL_BITS if self.loss == "HDHash" else (sum(LEVEL_BITS),)

    def make_loss(self) -> losses.HashLoss:
        weights = WEIGHTS[: len(self.level_bits)]
        decorrelation = DECORRELATION if self.term == SPREAD else 0.0
        loss = losses.HierarchicalLoss(losses.HashNetLoss(), self.level_bits, weights, decorrelation=decorrelation)
        return WithTerm(loss, *TERMS[self.term]) if self.term in TERMS else loss


def jobs() -> list[Job]:
    """Both losses at every decay, alone and with decorrelated bits; every other term with HDHash at one decay."""
    found = [
        Job(loss, decay, seed, term)
        for loss, term, decay, seed in itertools.product(("HDHash", "HashNet"), ("", SPREAD), DECAYS, SEEDS)
    ]
    return found + [Job("HDHash", OF_TERMS, seed, term) for term, seed in itertools.product(TERMS, SEEDS)]


class Views:
    """Features and classes of queries, training images and gallery; every view of a gallery image is in the gallery."""

    def __init__(self, data: Path, features: np.ndarray) -> None:
        self.features, (self.labels, names) = features, classes(data)
        images = ImageSet([None] * len(self.labels), self.labels, names, names=[*map(str, range(len(self.labels)))])
        split = draw_split("cifar10-1", images)
        self.train, self.gallery, self.query = (
            np.array([*map(int, part.names)]) for part in (split.train, split.gallery, split.query)
        )
        training = features[0, self.train].astype(np.float32)
        self.mean, self.scale = training.mean(0), training.std(0) + 1e-6

    def rows(self, view: int, images: np.ndarray) -> np.ndarray:
        """Features of a view, standardised over the training images."""
        return (self.features[view, images].astype(np.float32) - self.mean) / self.scale


class TrainingViews(Dataset[Any]):
    """A random view of each training image, drawn anew in every epoch."""

    def __init__(self, views: Views) -> None:
        n_views = len(views.features)
        self.rows = torch.from_numpy(np.stack([views.rows(view, views.train) for view in range(n_views)]))
        self.labels = torch.from_numpy(views.labels[views.train])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.rows[torch.randint(len(self.rows), ()), i], self.labels[i]


@cache
def _training(data: Path, path: Path) -> TrainingViews:
    return TrainingViews(Views(data, np.load(path, mmap_mode="r")))


def _trained(job: Job, data: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    training = _training(data, path)
    torch.manual_seed(job.seed)
    head = HashHead(training.rows.shape[2], job.level_bits)
    train(
        head,
        job.make_loss(),
        training,
        seed=job.seed,
        weight_decay=job.decay,
        progress=False,
        **RECIPE,  # type: ignore
    )
    layers = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)]
    print(job, flush=True)
    return (
        torch.cat([layer.weight for layer in layers]).detach().numpy(),
        torch.cat([layer.bias for layer in layers]).detach().numpy(),
    )


def train_heads(data: Path, path: Path) -> dict[Job, tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of all heads, two trainings at a time; `path` holds the features."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(jobs(), pool.map(partial(_trained, data=data, path=path), jobs()), strict=True))


def encode(
    views: Views, heads: dict[Job, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[Job, np.ndarray], dict[Job, np.ndarray]]:
    """Codes of the gallery, view by view, and of the queries; the features are read once for all heads."""
    weights = torch.from_numpy(np.concatenate([weight for weight, _ in heads.values()])).T
    biases = torch.from_numpy(np.concatenate([bias for _, bias in heads.values()]))

    def codes(rows: np.ndarray) -> np.ndarray:
        outputs = torch.addmm(biases, torch.from_numpy(rows), weights).numpy()
        return fh.sign_codes(outputs).reshape(len(rows), len(heads), -1).transpose(1, 0, 2)

    n_images = len(views.gallery)
    gallery = np.empty((len(heads), len(views.features) * n_images, sum(LEVEL_BITS) // 8), np.uint8)
    for view in range(len(views.features)):
        for some in np.array_split(np.arange(n_images), 20):
            gallery[:, view * n_images + some] = codes(views.rows(view, views.gallery[some]))
    queries = codes(views.rows(0, views.query))
    return dict(zip(heads, gallery, strict=True)), dict(zip(heads, map(np.ascontiguousarray, queries), strict=True))
