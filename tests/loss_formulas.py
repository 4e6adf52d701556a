"""Every loss as loops over images and bits, in Python floats, as its formula reads. z is a list of rows, sets a list of
sets of labels."""

import math
from itertools import product

import numpy as np

# Outputs and labels of six images, for which methods were worked out independently.
Z = (
    (0.5, -1.2, 0.3, 0.8),
    (1.0, -0.4, -0.6, 0.2),
    (-0.7, 0.9, 0.1, -1.1),
    (0.2, 0.6, -1.5, 0.4),
    (0.9, -0.8, -0.2, 1.3),
    (-0.4, 1.1, 0.6, -0.5),
)
LABEL_SETS = ((1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 1, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0))


def chosen_pairs(n, pairs):
    half = n // 2
    return {
        "all": [(i, j) for i in range(n) for j in range(n)],
        "offdiag": [(i, j) for i in range(n) for j in range(n) if i != j],
        "cross": [(i, j) for i in range(half) for j in range(half, n)],
    }[pairs]


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / max(math.sqrt(dot(a, a)) * math.sqrt(dot(b, b)), 1e-8)


def tanh(z):
    return [[math.tanh(x) for x in row] for row in z]


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def sgn(x):
    return 1.0 if x >= 0 else -1.0


def logistic(theta, s):
    return softplus(theta) - s * theta


def sign_error(u):
    return mean(sum((x - sgn(x)) ** 2 for x in row) for row in u)


def over_pairs(u, sets, pairs, value):
    return mean(value(u[i], u[j], bool(sets[i] & sets[j])) for i, j in chosen_pairs(len(u), pairs))


def balanced(sets, pairs):
    p = mean(bool(sets[i] & sets[j]) for i, j in chosen_pairs(len(sets), pairs))
    p = min(max(p, 1e-6), 1 - 1e-6)
    return lambda s: 1 / p if s else 1 / (1 - p)


def cel(z, sets, pairs="offdiag", margin=0.1):
    return over_pairs(tanh(z), sets, pairs, lambda a, b, s: 1 - cosine(a, b) if s else max(0, cosine(a, b) - margin))


def dch(z, sets, pairs="offdiag", gamma=20, quantization=0.1):
    n_bits, weight, eps = len(z[0]), balanced(sets, pairs), 1e-5

    def of_pair(a, b, s):
        d = n_bits * (eps + (1 - 2 * eps) * (1 - cosine(a, b)) / 2)
        return weight(s) * (s * math.log(d / gamma) + math.log(1 + gamma / d))

    u = tanh(z)
    from_ones = mean(
        math.log(1 + n_bits / 2 * (1 - cosine([abs(x) for x in row], [1.0] * n_bits)) / gamma) for row in u
    )
    return over_pairs(u, sets, pairs, of_pair) + quantization * from_ones


def dhn(z, sets, pairs="offdiag", quantization=0.01, hhnet=False):
    u = tanh(z)
    term = (lambda x: math.log(math.cosh(abs(x))) - 1) if hhnet else (lambda x: math.log(math.cosh(abs(x) - 1)))
    return over_pairs(u, sets, pairs, lambda a, b, s: logistic(dot(a, b), s)) + quantization * mean(
        sum(term(x) for x in row) for row in u
    )


def dpsh(z, sets, pairs="offdiag", quantization=0.01, hhnet=False):
    u = tanh(z) if hhnet else z
    factor = 1 if hhnet else 0.5
    return over_pairs(u, sets, pairs, lambda a, b, s: logistic(factor * dot(a, b), s)) + quantization * sign_error(u)


def wglhh(z, sets, pairs="offdiag", alpha=0.1, pos_weight=0.0, quantization=0.001, hhnet=False):
    u, n_bits, weight = tanh(z), len(z[0]), balanced(sets, pairs)

    def of_pair(a, b, s):
        c = cosine(a, b)
        x = alpha * (n_bits / 2 * (1 - c)) ** 2
        p, attention = math.exp(-x), math.exp(abs((1 + c) / 2 - s))
        if hhnet:
            return weight(s) * attention * ((1 - s) * p + s * ((1 + p) * -softplus(-x) - x * p))
        of_s = s * math.log(2 * s / (s + p)) if s else 0
        return (1 + pos_weight * s) * attention * (p * math.log(2 * p / (p + s)) + of_s)

    return over_pairs(u, sets, pairs, of_pair) + quantization * sign_error(u)


def hyp2(z, sets, proxies, margin=0.1, beta=0.5, pair_filter="multi", hhnet=False):
    if hhnet:
        z, proxies = tanh(z), tanh(proxies)
    entries = [(i, c) for i in range(len(z)) for c in range(len(proxies))]
    near = mean((0 if hhnet else 1) - cosine(z[i], proxies[c]) for i, c in entries if c in sets[i])
    far = mean(max(0, cosine(z[i], proxies[c]) - margin) for i, c in entries if c not in sets[i])
    several = [len(s) > 1 or pair_filter == "all" for s in sets]
    pairs = [(i, j) for i, j in chosen_pairs(len(z), "offdiag") if several[i] and several[j] and not sets[i] & sets[j]]
    return near + far + beta * mean(max(0, cosine(z[i], z[j]) - margin) for i, j in pairs)


def triplets(sets):
    n = len(sets)
    for a, p, q in product(range(n), repeat=3):
        if a not in (p, q) and sets[a] & sets[p] and not sets[a] & sets[q]:
            yield a, p, q


def dnnh(z, sets, epsilon=0.5):
    def threshold(x):
        x = 1 / (1 + math.exp(-x))
        return 0 if x < 0.5 - epsilon else 1 if x > 0.5 + epsilon else (x - 0.5 + epsilon) / (2 * epsilon)

    f = [[threshold(x) for x in row] for row in z]

    def d(i, j):
        return sum((x - y) ** 2 for x, y in zip(f[i], f[j], strict=True))

    return mean(max(0, 1 + d(a, p) - d(a, q)) for a, p, q in triplets(sets))


def dtsh(z, sets, margin=5, quantization=1):
    values = (softplus(margin - dot(z[a], z[p]) / 2 + dot(z[a], z[q]) / 2) for a, p, q in triplets(sets))
    return mean(values) + quantization * sign_error(z) / len(z[0])


def target(classes, codes, ties):
    votes = [sum(codes[c][k] for c in classes) for k in range(len(ties))]
    return [sgn(v) if v else t for v, t in zip(votes, ties, strict=True)]


def csq(z, sets, codes, ties, quantization=1e-4):
    def of_bit(x, t):
        u = math.tanh(x)
        p, y = (1 + u) / 2, (1 + t) / 2
        return -y * math.log(p) - (1 - y) * math.log(1 - p) + quantization * (abs(u) - 1) ** 2

    return mean(
        of_bit(x, t) for row, s in zip(z, sets, strict=True) for x, t in zip(row, target(s, codes, ties), strict=True)
    )


def dpn(z, sets, codes, ties, margin=1):
    return mean(
        sum(max(0, margin - x * t) for x, t in zip(row, target(s, codes, ties), strict=True))
        for row, s in zip(z, sets, strict=True)
    )


def orthohash(z, sets, codes, ties, scale=8, margin=0.2):
    def of_image(row, s):
        logits = [scale * (cosine(row, code) - margin * (c in s)) for c, code in enumerate(codes)]
        log_sum = math.log(sum(math.exp(x) for x in logits))
        return mean(log_sum - logits[c] for c in s)

    return mean(of_image(row, s) for row, s in zip(z, sets, strict=True))


def greedyhash(z, sets, weight, alpha=0.1, multi_label=True):
    def of_image(row, s):
        logits = [dot([sgn(x) for x in row], w) for w in weight]
        if multi_label:
            return mean(softplus(-x) if c in s else softplus(x) for c, x in enumerate(logits))
        return math.log(sum(math.exp(x) for x in logits)) - logits[next(iter(s))]

    return mean(
        of_image(row, s) + alpha * mean(abs(abs(x) - 1) ** 3 for x in row) for row, s in zip(z, sets, strict=True)
    )


def dsh(z, sets, pairs="offdiag", margin=8, quantization=0.01):
    def of_pair(a, b, s):
        d = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        return s * d / 2 + (1 - s) * max(0, margin - d) / 2

    return over_pairs(z, sets, pairs, of_pair) + quantization * mean(abs(abs(x) - 1) for row in z for x in row)


def idhn(z, sets, pairs="offdiag", gamma=0.1, quantization=0.1):
    n_bits = len(z[0])
    u = [[x / (1 + abs(x)) for x in row] for row in z]

    def of_pair(i, j):
        s = len(sets[i] & sets[j]) / math.sqrt(len(sets[i]) * len(sets[j])) if sets[i] and sets[j] else 0
        t = dot(u[i], u[j])
        return logistic(t / 2, s) if s in (0, 1) else gamma * (t + n_bits - 2 * s * n_bits) ** 2

    return mean(of_pair(i, j) for i, j in chosen_pairs(len(z), pairs)) + quantization * mean(
        abs(abs(x) - 1) for row in u for x in row
    )


def mihash(z, sets, pairs="offdiag", n_bins=None):
    u, n_bits = tanh(z), len(z[0])
    n_bins = n_bins or n_bits + 1

    def entropy(histogram):
        total = sum(histogram)
        return -sum(h / total * math.log(h / total) for h in histogram if h > 0)

    values = []
    chosen = chosen_pairs(len(z), pairs)
    for i in sorted({i for i, _ in chosen}):
        histograms = {True: [0.0] * n_bins, False: [0.0] * n_bins}
        counts = {True: 0, False: 0}
        for j in [j for left, j in chosen if left == i]:
            s = bool(sets[i] & sets[j])
            counts[s] += 1
            position = (n_bits - dot(u[i], u[j])) / 2 * (n_bins - 1) / n_bits
            for b in range(n_bins):
                histograms[s][b] += max(0, 1 - abs(position - b))
        if all(counts.values()):
            both = [a + b for a, b in zip(histograms[True], histograms[False], strict=True)]
            given = sum(counts[s] * entropy(histograms[s]) for s in counts) / sum(counts.values())
            values.append(given - entropy(both))
    return mean(values)


def bihalf(z, features, pairs="offdiag"):
    columns = np.array(z).T
    b = np.full(columns.shape, -1.0)
    for k, column in enumerate(columns):
        b[k, np.argsort(-column, kind="stable")[: len(column) // 2]] = 1
    b = b.T.tolist()
    return mean((cosine(b[i], b[j]) - cosine(features[i], features[j])) ** 2 for i, j in chosen_pairs(len(z), pairs))
