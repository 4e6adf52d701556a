"""Deep Polarized Network."""

from __future__ import annotations

from torch import Tensor

from fasthash._checks import check_positive
from fasthash.losses.targets import TargetLoss, class_codes

__all__ = ["DPNLoss"]


class DPNLoss(TargetLoss):
    """Hinge loss that pushes every output past a margin, towards the sign in the code of its class.

    The mean over images of `sum_k max(0, margin - z_k t_k)`, where t is the code of the class. Images without labels
    are left out.

    Fan, Ng, Ju, Zhang and Chan, Deep Polarized Network for Supervised Learning of Accurate Binary Hashing Codes, IJCAI
    2020.

    Args:
        n_bits, n_classes, codes, seed: the targets, see `TargetLoss`; None draws them at random, as the paper does.
        margin: positive.
    """

    def __init__(
        self, n_bits: int, n_classes: int, *, margin: float = 1.0, codes: Tensor | None = None, seed: int = 0
    ) -> None:
        codes = class_codes(n_classes, n_bits, kind="random", seed=seed) if codes is None else codes
        super().__init__(n_bits, n_classes, codes=codes, seed=seed)
        self.margin = check_positive("margin", margin)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        return z.shape[1] * self.labelled_mean((self.margin - z * self.targets(z, labels)).clamp(min=0), labels)
