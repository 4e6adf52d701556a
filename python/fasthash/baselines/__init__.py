"""Classical hashing methods as baselines: binary codes from features, learned without a network.

All methods are scikit-learn estimators: `fit(X, y)`, then `encode(X)`. `LSH`, `SpectralHashing` and `ITQ` need no
labels; `KSH` and `SDH` need labels. Their codes are compared by Hamming distance. `OPQ` is a quantiser and has its own
`search`.
"""

from __future__ import annotations

from fasthash._extras import needs_extra

# Importing any module of this package runs this file first, so this is the only check for scikit-learn.
with needs_extra("baselines"):
    from fasthash.baselines.base import Baseline, SignBaseline
    from fasthash.baselines.itq import ITQ
    from fasthash.baselines.ksh import KSH
    from fasthash.baselines.lsh import LSH
    from fasthash.baselines.opq import OPQ
    from fasthash.baselines.sdh import SDH
    from fasthash.baselines.spectral import SpectralHashing

__all__ = ["ITQ", "KSH", "LSH", "OPQ", "SDH", "Baseline", "SignBaseline", "SpectralHashing"]
