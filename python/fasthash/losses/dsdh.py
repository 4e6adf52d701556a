"""Deep Supervised Discrete Hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_int, check_not_negative, check_positive
from fasthash.losses.base import HashLoss
from fasthash.losses.pairs import OutputBank
from fasthash.losses.targets import class_codes
from fasthash.losses.terms import logistic

__all__ = ["DSDHLoss"]


class DSDHLoss(HashLoss):
    """Pair loss of DPSH, plus binary codes of the whole training set that a linear map can classify.

    The mean of `softplus(t) - s t`, `t = <z_i, z_j> / 2`, over the pairs of the batch with all images seen so far, plus
    `eta / n` times the mean over images of `|z_i - b_i|^2`. Once per n images, `step` solves for the codes B in
    {-1, +1} and the map W. They lower `mu |Y - B W|^2 + nu |W|^2 + eta |B - Z|^2`: W by least squares, B bit by bit
    (discrete cyclic coordinate descent).

    Li, Sun, He and Tan, Deep Supervised Discrete Hashing, NeurIPS 2017. eta is divided by n as in the authors' DPSH.

    Args:
        labels: int64 `(n,)` or multi-hot `(n, C)`, labels of the training set.
        n_bits: columns of `z`.
        mu, nu, eta: weights of the classification error, of |W|^2, and of the distance between codes and outputs.
        sweeps: number of times that W and then all bits are solved for.
        seed: random seed of the initial codes.

    Attributes:
        codes: buffer `(n, n_bits)`, B.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    codes: Tensor
    n_passed: Tensor

    def __init__(
        self,
        labels: Tensor,
        n_bits: int,
        *,
        mu: float = 1.0,
        nu: float = 1.0,
        eta: float = 55.0,
        sweeps: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.bank = OutputBank(labels, n_bits)
        self.mu = check_positive("mu", mu)
        self.nu = check_positive("nu", nu)
        self.eta = check_not_negative("eta", eta)
        self.sweeps = check_int("sweeps", sweeps, 1)
        self.register_buffer("codes", class_codes(max(len(labels), 1), n_bits, kind="random", seed=seed))
        self.register_buffer("n_passed", torch.zeros((), dtype=torch.int64))

    @property
    def needs_index(self) -> bool:
        """Always true: the loss stores outputs and codes of the training set."""
        return True

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        assert index is not None  # forward has checked it
        pairs = self.bank.pair_up(z, labels, index)
        from_codes = (z - self.codes[index].to(z.dtype)).square().sum() / max(len(z), 1)
        self.n_passed += len(z)
        return pairs.mean(logistic(pairs.products() / 2, pairs.similar)) + self.eta / len(self.codes) * from_codes

    def step(self) -> None:
        """Solve for the codes, once per n images."""
        if int(self.n_passed) >= len(self.codes):
            self.n_passed.zero_()
            self.solve()

    @torch.no_grad()
    def solve(self) -> None:
        """Lower the objective in W and B, given the outputs."""
        outputs, labels = self.bank.outputs.double(), self.bank.labels
        classes = labels.double() if labels.ndim == 2 else torch.nn.functional.one_hot(labels).double()
        codes = self.codes.double()
        ridge = self.nu / self.mu * torch.eye(codes.shape[1], dtype=torch.float64, device=codes.device)
        for _ in range(self.sweeps):
            w = torch.linalg.solve(codes.T @ codes + ridge, codes.T @ classes)
            linear = self.mu * classes @ w.T + self.eta * outputs
            products = self.mu * (w @ w.T).fill_diagonal_(0)
            for k in range(codes.shape[1]):
                pull = linear[:, k] - codes @ products[:, k]
                codes[:, k] = torch.where(pull == 0, codes[:, k], pull.sign())
        self.codes.copy_(codes)
