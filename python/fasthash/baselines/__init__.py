"""The classical methods that papers compare with: binary codes from features, learned without a network.

All are estimators in the sense of scikit-learn: `fit(X, y)`, then `encode(X)`. `LSH`,
`SpectralHashing` and `ITQ` need no labels, `KSH` and `SDH` do; their codes are compared by Hamming distance. `OPQ`, a
quantiser, has a `search` of its own.
"""

from __future__ import annotations

from fasthash._extras import needs_extra

# Every import of a module of this package passes here first, so that scikit-learn is asked for in this one place.
with needs_extra("baselines"):
    from fasthash.baselines.base import Baseline, SignBaseline
    from fasthash.baselines.itq import ITQ
    from fasthash.baselines.ksh import KSH
    from fasthash.baselines.lsh import LSH
    from fasthash.baselines.opq import OPQ
    from fasthash.baselines.sdh import SDH
    from fasthash.baselines.spectral import SpectralHashing

__all__ = ["ITQ", "KSH", "LSH", "OPQ", "SDH", "Baseline", "SignBaseline", "SpectralHashing"]
