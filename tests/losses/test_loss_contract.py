"""Every loss: golden values, loops written from the formula, numerical gradients, hopeless batches, learning."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as by_hand
from fasthash import losses, metrics

Z = torch.tensor(by_hand.Z, dtype=torch.float64)
U = torch.tanh(Z)
LABEL_SETS = torch.tensor(by_hand.LABEL_SETS)
CLASSES = torch.tensor([0, 1, 0, 2, 2, 0])
FEATURES = torch.tensor(
    [[1.0, 0.2, 0.1], [0.9, 0.1, 0.4], [-0.2, 1.0, 0.3], [0.1, 0.8, -0.5], [-1.0, 0.1, 0.2], [0.7, 0.3, 0.9]],
    dtype=torch.float64,
)
PROXIES = torch.tensor([[1.0, -1, 1, 1], [1, 1, -1, 1], [-1, 1, 1, -1], [1, 1, -1, -1]])
INDEX = torch.arange(6)


def hyp2(**options):
    loss = losses.HyP2Loss(4, 4, **({"margin": 0.1} | options))
    with torch.no_grad():
        loss.proxies.copy_(PROXIES)
    return loss


def as_sets(labels):
    return [{k for k, on in enumerate(row) if on} if isinstance(row, list) else {row} for row in labels.tolist()]


# Losses of codes of 4 bits, of 4 classes at most: how to make each, and its formula. Nothing here is at its default
# where a default would hide that an argument is ignored.
PAIR_LOSSES = {
    "cel": (lambda **o: losses.CELLoss(margin=0.1, **o), by_hand.cel, {}),
    "dch": (losses.DCHLoss, by_hand.dch, {}),
    "dch gamma 3": (
        lambda **o: losses.DCHLoss(gamma=3, quantization=0.7, **o),
        by_hand.dch,
        {"gamma": 3, "quantization": 0.7},
    ),
    "dch hhnet": (lambda **o: losses.DCHLoss(variant="hhnet", **o), by_hand.dch, {"gamma": 10, "quantization": 0.01}),
    "dhn": (losses.DHNLoss, by_hand.dhn, {}),
    "dhn 0.7": (lambda **o: losses.DHNLoss(quantization=0.7, **o), by_hand.dhn, {"quantization": 0.7}),
    "dhn hhnet": (
        lambda **o: losses.DHNLoss(variant="hhnet", **o),
        by_hand.dhn,
        {"quantization": 0.01, "hhnet": True},
    ),
    "dpsh": (losses.DPSHLoss, by_hand.dpsh, {}),
    "dpsh 0.7": (lambda **o: losses.DPSHLoss(quantization=0.7, **o), by_hand.dpsh, {"quantization": 0.7}),
    "dpsh hhnet": (lambda **o: losses.DPSHLoss(variant="hhnet", **o), by_hand.dpsh, {"hhnet": True}),
    "wglhh": (losses.WGLHHLoss, by_hand.wglhh, {}),
    "wglhh options": (
        lambda **o: losses.WGLHHLoss(alpha=0.3, pos_weight=0.7, quantization=0.2, **o),
        by_hand.wglhh,
        {"alpha": 0.3, "pos_weight": 0.7, "quantization": 0.2},
    ),
    "wglhh hhnet": (lambda **o: losses.WGLHHLoss(variant="hhnet", **o), by_hand.wglhh, {"hhnet": True}),
    "dsh": (lambda **o: losses.DSHLoss(**o), by_hand.dsh, {}),
    "dsh options": (
        lambda **o: losses.DSHLoss(margin=3, quantization=0.7, **o),
        by_hand.dsh,
        {"margin": 3, "quantization": 0.7},
    ),
    "idhn": (losses.IDHNLoss, by_hand.idhn, {}),
    "idhn options": (
        lambda **o: losses.IDHNLoss(gamma=0.7, quantization=0.3, **o),
        by_hand.idhn,
        {"gamma": 0.7, "quantization": 0.3},
    ),
    "mihash": (losses.MIHashLoss, by_hand.mihash, {}),
    "mihash 3 bins": (lambda **o: losses.MIHashLoss(n_bins=3, **o), by_hand.mihash, {"n_bins": 3}),
}
OTHER_LOSSES = {
    "hyp2": (hyp2, by_hand.hyp2, {"proxies": PROXIES.tolist()}),
    "hyp2 options": (
        lambda: hyp2(margin=-0.3, beta=2.0, pair_filter="all"),
        by_hand.hyp2,
        {"proxies": PROXIES.tolist(), "margin": -0.3, "beta": 2.0, "pair_filter": "all"},
    ),
    "hyp2 hhnet": (
        lambda: hyp2(variant="hhnet"),
        by_hand.hyp2,
        {"proxies": PROXIES.tolist(), "hhnet": True, "pair_filter": "all"},
    ),
    "dnnh": (losses.DNNHLoss, by_hand.dnnh, {}),
    "dnnh 0.2": (lambda: losses.DNNHLoss(epsilon=0.2), by_hand.dnnh, {"epsilon": 0.2}),
    "dtsh": (losses.DTSHLoss, by_hand.dtsh, {}),
    "dtsh options": (
        lambda: losses.DTSHLoss(margin=0.5, quantization=0.2),
        by_hand.dtsh,
        {"margin": 0.5, "quantization": 0.2},
    ),
    "csq": (lambda: losses.CSQLoss(4, 4), by_hand.csq, {"codes": True}),
    "csq 0.7": (lambda: losses.CSQLoss(4, 4, quantization=0.7), by_hand.csq, {"codes": True, "quantization": 0.7}),
    "dpn": (lambda: losses.DPNLoss(4, 4, margin=2.0), by_hand.dpn, {"codes": True, "margin": 2.0}),
    "dpn seed": (lambda: losses.DPNLoss(4, 4, seed=3), by_hand.dpn, {"codes": True}),
    "orthohash": (lambda: losses.OrthoHashLoss(4, 4), by_hand.orthohash, {"codes": True}),
    "orthohash options": (
        lambda: losses.OrthoHashLoss(4, 4, scale=3.0, margin=0.5, codes=PROXIES),
        by_hand.orthohash,
        {"codes": True, "scale": 3.0, "margin": 0.5},
    ),
}
ALL = {**{name: (make, formula, options) for name, (make, formula, options) in PAIR_LOSSES.items()}, **OTHER_LOSSES}
STRAIGHT_THROUGH = {"greedyhash": lambda: losses.GreedyHashLoss(4, 4), "bihalf": losses.BiHalfLoss}
WITH_MEMORY = {
    "dpsh bank": lambda: losses.DPSHLoss(pairs=losses.OutputBank(LABEL_SETS, 4)),
    "dsdh": lambda: losses.DSDHLoss(LABEL_SETS, 4),
    "cnnh": lambda: losses.CNNHLoss(losses.cnnh_codes(LABEL_SETS, 4)),
}
MAKERS = (
    {name: case[0] for name, case in ALL.items()} | STRAIGHT_THROUGH | WITH_MEMORY | {"hashnet": losses.HashNetLoss}
)


def call(loss, z, labels):
    if isinstance(loss, losses.BiHalfLoss):
        labels = FEATURES[: len(z)]
    return loss(z, labels, INDEX[: len(z)] if loss.needs_index else None)


@pytest.mark.parametrize(
    ("loss", "z", "expected"),
    [
        (losses.DHNLoss(quantization=0, pairs="all"), Z, 0.7502469107),
        (losses.DHNLoss(quantization=0), Z, 0.8550103003),
        (losses.DPSHLoss(variant="hhnet", quantization=0), Z, 0.7502469107),
        (losses.DPSHLoss(quantization=0, pairs="all"), U, 0.6899761086),
        (losses.DPSHLoss(quantization=0), U, 0.7466855907),
        (losses.DCHLoss(gamma=10, quantization=0, pairs="all"), Z, 2.3230636882),
        (losses.DCHLoss(gamma=10, quantization=0), Z, 2.3948952115),
        (losses.DCHLoss(quantization=0, pairs="all"), Z, 2.8620192685),
        (losses.DCHLoss(quantization=0), Z, 2.9002931892),
        (losses.WGLHHLoss(quantization=0, pairs="all"), Z, 0.5214260839),
        (losses.WGLHHLoss(quantization=0), Z, 0.6257113006),
        (losses.WGLHHLoss(pos_weight=0.7, quantization=0, pairs="all"), Z, 0.5936727201),
        (losses.WGLHHLoss(pos_weight=0.7, quantization=0), Z, 0.7124072641),
        (losses.WGLHHLoss(pos_weight=70, quantization=0, pairs="all"), Z, 7.7460897043),
        (losses.WGLHHLoss(pos_weight=70, quantization=0), Z, 9.2953076455),
        (losses.WGLHHLoss(variant="hhnet", quantization=0), Z, -0.3644829169),
        (losses.CELLoss(margin=0.1, pairs="all"), Z, 0.5368462444),
        (losses.CELLoss(margin=0.1), Z, 0.6442154933),
        (losses.DSHLoss(margin=8, quantization=0, pairs="all"), U, 1.8203595059),
        (losses.DSHLoss(margin=8, quantization=0), U, 2.1844314071),
        (hyp2(beta=0.0), Z, 0.7289316424 + 0.1699369389),
        (hyp2(beta=1.0), Z, 0.7289316424 + 0.1699369389 + 0.6183632779),
        (hyp2(beta=1.0, pair_filter="all"), Z, 0.7289316424 + 0.1699369389 + 0.2357270000),
        (losses.DTSHLoss(quantization=0), U, 5.1990070443),
        (losses.DNNHLoss(), Z, 1.0592181111),
    ],
)
def test_golden_values(loss, z, expected):
    assert loss(z, LABEL_SETS).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "z", "expected"),
    [
        (losses.DPSHLoss, U, 1.0593196230),
        (losses.DHNLoss, Z, 0.4937079480),
        (lambda **o: losses.DHNLoss(variant="hhnet", **o), Z, -3.3579323204),
        (lambda **o: losses.DCHLoss(gamma=10, **o), Z, 0.0156143413),
        (losses.DCHLoss, Z, 0.0078405238),
        (losses.WGLHHLoss, Z, 1.0593196230),
    ],
)
def test_golden_values_of_quantisation(make, z, expected):
    terms = make(quantization=1)(z, LABEL_SETS) - make(quantization=0)(z, LABEL_SETS)
    assert terms.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("labels", [LABEL_SETS, CLASSES], ids=["label_sets", "classes"])
@pytest.mark.parametrize("pairs", ["offdiag", "all", "cross"])
@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_pair_losses_equal_their_formulas(name, pairs, labels):
    make, formula, options = PAIR_LOSSES[name]
    expected = formula(Z.tolist(), as_sets(labels), pairs=pairs, **options)
    assert make(pairs=pairs)(Z, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("labels", [LABEL_SETS, CLASSES], ids=["label_sets", "classes"])
@pytest.mark.parametrize("name", OTHER_LOSSES)
def test_other_losses_equal_their_formulas(name, labels):
    make, formula, options = OTHER_LOSSES[name]
    loss = make()
    if options.get("codes"):
        options = options | {"codes": loss.codes.tolist(), "ties": loss.ties.tolist()}
    assert loss(Z, labels).item() == pytest.approx(formula(Z.tolist(), as_sets(labels), **options), rel=1e-9)


@pytest.mark.parametrize("variant", ["original", "hhnet"])
def test_pairs_default_to_those_of_the_variant(variant):
    default = "all" if variant == "hhnet" else "offdiag"
    for make in (losses.DCHLoss, losses.DHNLoss, losses.DPSHLoss, losses.WGLHHLoss):
        assert make(variant=variant)(Z, CLASSES) == make(variant=variant, pairs=default)(Z, CLASSES)


@pytest.mark.parametrize("make", [losses.DCHLoss, lambda **o: losses.WGLHHLoss(variant="hhnet", **o)])
def test_fraction_of_similar_pairs_can_be_given(make):
    counted = (CLASSES[:, None] == CLASSES).fill_diagonal_(False).sum().item() / 30
    assert make(pairs="offdiag", similar_fraction=counted)(Z, CLASSES) == pytest.approx(
        make(pairs="offdiag")(Z, CLASSES)
    )
    assert make(similar_fraction=0.01)(Z, CLASSES) != make()(Z, CLASSES)


def test_greedyhash_equals_its_formula():
    loss = losses.GreedyHashLoss(4, 4, alpha=0.3)
    weight = loss.classifier.weight.tolist()
    for labels, multi_label in ((LABEL_SETS, True), (CLASSES, False)):
        expected = by_hand.greedyhash(Z.tolist(), as_sets(labels), weight, 0.3, multi_label)
        assert loss(Z, labels).item() == pytest.approx(expected, rel=1e-6)


def test_greedyhash_passes_the_gradient_of_the_signs():
    loss = losses.GreedyHashLoss(4, 3, alpha=0.0).double()
    z = Z.clone().requires_grad_()
    loss(z, CLASSES).backward()
    signs = torch.where(Z >= 0, 1.0, -1.0).double().requires_grad_()
    torch.nn.functional.cross_entropy(signs @ loss.classifier.weight.T, CLASSES).backward()
    torch.testing.assert_close(z.grad, signs.grad)


@pytest.mark.parametrize("pairs", ["offdiag", "all", "cross"])
def test_bihalf_equals_its_formula(pairs):
    for n in (6, 5):
        expected = by_hand.bihalf(Z[:n].tolist(), FEATURES[:n].tolist(), pairs)
        assert losses.BiHalfLoss(pairs=pairs)(Z[:n], FEATURES[:n]).item() == pytest.approx(expected, rel=1e-9)


def test_bihalf_passes_the_gradient_of_the_halves():
    def gradient(gamma):
        z = Z.clone().requires_grad_()
        losses.BiHalfLoss(gamma=gamma)(z, FEATURES).backward()
        return z.grad

    halves = torch.full_like(Z, -1).scatter_(0, Z.argsort(dim=0, descending=True)[:3], 1).requires_grad_()
    assert halves.sum() == 0
    cosines = torch.nn.functional.cosine_similarity(halves[:, None], halves, dim=2)
    of_features = torch.nn.functional.cosine_similarity(FEATURES[:, None], FEATURES, dim=2)
    ((cosines - of_features).square().fill_diagonal_(0).sum() / 30).backward()
    torch.testing.assert_close(gradient(0.0), halves.grad)
    torch.testing.assert_close(gradient(6.0), halves.grad + 6 * (Z - halves.detach()) / 24)


@pytest.mark.parametrize("labels", [LABEL_SETS, CLASSES], ids=["label_sets", "classes"])
@pytest.mark.parametrize("name", [*ALL, "hashnet", "cnnh"])
def test_gradients(name, labels):
    loss = MAKERS[name]()
    z = Z.clone()
    if name.startswith("dpn"):
        z = z + 0.01  # a value of 1 is where the hinge bends
    assert torch.autograd.gradcheck(lambda z: call(loss, z, labels), z.requires_grad_())


def test_a_bank_holds_the_latest_outputs_of_all_images():
    bank = losses.OutputBank(LABEL_SETS, 4)
    loss = losses.DPSHLoss(quantization=0.3, pairs=bank)
    loss(10 * Z[:3], LABEL_SETS[:3], torch.tensor([0, 1, 2]))
    index = torch.tensor([4, 1, 3])  # 5 has not been seen
    z = Z[index].clone().requires_grad_()
    value = loss(z, LABEL_SETS[index], index)
    value.backward()

    stored = torch.stack([10 * Z[0], Z[1], 10 * Z[2], Z[3], Z[4]]).float().double()
    assert bank.seen.tolist() == [True] * 5 + [False]
    assert (bank.outputs[:5] == stored.float()).all()
    similar = (LABEL_SETS[index].float() @ LABEL_SETS[:5].float().T > 0).double()
    expected = z.detach().clone().requires_grad_()
    theta = expected @ stored.T / 2
    signs = torch.where(expected >= 0, 1.0, -1.0)
    by_formula = (theta.exp().log1p() - similar * theta).mean() + 0.3 * (expected - signs).square().sum(dim=1).mean()
    by_formula.backward()
    assert value.item() == pytest.approx(by_formula.item())
    torch.testing.assert_close(z.grad, expected.grad)


def test_a_bank_can_be_asked_twice_before_a_backward():
    loss = losses.DPSHLoss(pairs=losses.OutputBank(LABEL_SETS, 4))
    z = Z.clone().requires_grad_()
    (loss(z[:3], LABEL_SETS[:3], INDEX[:3]) + loss(z[3:], LABEL_SETS[3:], INDEX[3:])).backward()
    assert z.grad.isfinite().all()


def test_scaled_losses_have_scaled_gradients():
    for name, make in MAKERS.items():
        gradients = []
        for factor in (1, 1024):
            torch.manual_seed(0)
            z = Z.clone().requires_grad_()
            (factor * call(make(), z, LABEL_SETS)).backward()
            gradients.append(z.grad / factor)
        torch.testing.assert_close(*gradients, msg=name)


def test_dsdh_solves_for_codes_once_in_as_many_images_as_there_are():
    loss = losses.DSDHLoss(LABEL_SETS, 4, mu=2.0, nu=0.5, eta=3.0, sweeps=4, seed=1)
    first = loss.codes.clone()
    assert set(first.flatten().tolist()) == {-1.0, 1.0}
    value = loss(Z, LABEL_SETS, INDEX)
    pairs = by_hand.over_pairs(
        Z.tolist(), as_sets(LABEL_SETS), "all", lambda a, b, s: by_hand.logistic(by_hand.dot(a, b) / 2, s)
    )
    assert value.item() == pytest.approx(pairs + 3.0 / 6 * (Z - first).square().sum(dim=1).mean().item())

    def objective(codes):
        classes = LABEL_SETS.double()
        w = torch.linalg.solve(codes.T @ codes + 0.25 * torch.eye(4, dtype=torch.float64), codes.T @ classes)
        fit = 2.0 * (classes - codes @ w).square().sum() + 0.5 * w.square().sum()
        return (fit + 3.0 * (codes - loss.bank.outputs.double()).square().sum()).item()

    before = objective(first.double())
    loss.step()
    assert objective(loss.codes.double()) < before
    assert loss.n_passed == 0
    # No single bit can be turned to advantage while the map stays.
    codes = loss.codes.double()
    w = torch.linalg.solve(codes.T @ codes + 0.25 * torch.eye(4, dtype=torch.float64), codes.T @ LABEL_SETS.double())

    def fixed(codes):
        return 2.0 * (LABEL_SETS - codes @ w).square().sum() + 3.0 * (codes - loss.bank.outputs).square().sum()

    for i in range(6):
        for k in range(4):
            turned = codes.clone()
            turned[i, k] *= -1
            assert fixed(turned) >= fixed(codes) - 1e-9
    solved = loss.codes.clone()
    loss(Z[:2], LABEL_SETS[:2], INDEX[:2])
    loss.step()
    assert (loss.codes == solved).all()


@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (Z, torch.eye(6, 4)),
        (Z, torch.tensor([[1, 0, 0, 0]] * 6)),
        (Z, torch.ones(6, 4)),
        (Z, torch.zeros(6, 4)),
        (torch.zeros(6, 4), LABEL_SETS),
        (torch.cat([torch.zeros(3, 4), Z[:3].float()]), LABEL_SETS),
        (Z[:1], LABEL_SETS[:1]),
        (Z[:2], LABEL_SETS[:2]),
        (Z[:0], LABEL_SETS[:0]),
        (Z * 1e4, LABEL_SETS),
        (Z.float() * 1e4, LABEL_SETS),
        (Z.half(), LABEL_SETS),
        (Z.sign(), LABEL_SETS),
        (Z[:1].expand(6, 4), LABEL_SETS),
    ],
    ids=[
        *("none_similar", "one_class", "all_labels", "no_labels", "zero_z", "some_zero_z", "batch_of_1", "batch_of_2"),
        *("batch_of_0", "large_z", "large_float32", "half", "signs", "equal_rows"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_degenerate_batches_are_finite(name, z, labels):
    loss = MAKERS[name]()
    z = z.clone().requires_grad_()
    value = call(loss, z, labels)
    value.backward()
    assert value.ndim == 0
    assert value.dtype == (torch.float64 if z.dtype == torch.float64 else torch.float32)
    assert value.isfinite()
    assert z.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)
    loss.step()


@pytest.mark.parametrize("name", MAKERS)
def test_only_classes_that_share_a_label_attract(name):
    """The loss falls when an image moves towards the others of its class."""
    loss = MAKERS[name]()
    z = Z.clone().requires_grad_()
    call(loss, z, LABEL_SETS).backward()
    assert z.grad.abs().sum() > 0


N_BITS, N_CLASSES = 16, 5
LEARNABLE = {
    "cel": lambda y: losses.CELLoss(N_CLASSES),
    "dch": lambda y: losses.DCHLoss(),
    "dhn": lambda y: losses.DHNLoss(),
    "dpsh": lambda y: losses.DPSHLoss(),
    "dpsh bank": lambda y: losses.DPSHLoss(pairs=losses.OutputBank(y, N_BITS)),
    "hashnet": lambda y: losses.HashNetLoss(),
    "hashnet cross": lambda y: losses.HashNetLoss(pairs="cross"),
    "wglhh": lambda y: losses.WGLHHLoss(pos_weight=5),
    "hyp2": lambda y: losses.HyP2Loss(N_BITS, N_CLASSES),
    **{
        f"{name} hhnet": lambda y, make=make: make(variant="hhnet")
        for name, make in {
            "dch": losses.DCHLoss,
            "dhn": losses.DHNLoss,
            "dpsh": losses.DPSHLoss,
            "wglhh": losses.WGLHHLoss,
            "hyp2": lambda **o: losses.HyP2Loss(N_BITS, N_CLASSES, **o),
        }.items()
    },
    "cnnh": lambda y: losses.CNNHLoss(losses.cnnh_codes(y, N_BITS)),
    "dnnh": lambda y: losses.DNNHLoss(),
    "dtsh": lambda y: losses.DTSHLoss(),
    "csq": lambda y: losses.CSQLoss(N_BITS, N_CLASSES),
    "orthohash": lambda y: losses.OrthoHashLoss(N_BITS, N_CLASSES),
    "dpn": lambda y: losses.DPNLoss(N_BITS, N_CLASSES, codes=losses.class_codes(N_CLASSES, N_BITS)),
    "greedyhash": lambda y: losses.GreedyHashLoss(N_BITS, N_CLASSES),
    "dsh": lambda y: losses.DSHLoss(),
    "dsdh": lambda y: losses.DSDHLoss(y, N_BITS, eta=0.1),  # 55 is for thousands of images
    "idhn": lambda y: losses.IDHNLoss(),
    "mihash": lambda y: losses.MIHashLoss(),
    "bihalf": lambda y: losses.BiHalfLoss(gamma=0.1),  # 6 holds outputs that share no network where they are
    "hdhash": lambda y: losses.HierarchicalLoss(losses.HashNetLoss(), (8, 8)),
    "hdhash hyp2": lambda y: losses.HierarchicalLoss([losses.HyP2Loss(8, N_CLASSES) for _ in range(2)], (8, 8)),
}


@pytest.mark.parametrize(
    ("name", "multi_label"),
    # Cosines of features do not say who shares a label of several.
    [
        (name, multi_label)
        for name in LEARNABLE
        for multi_label in (False, True)
        if (name, multi_label) != ("bihalf", True)
    ],
)
def test_one_batch_is_learned(name, multi_label):
    torch.manual_seed(0)
    labels = torch.arange(60) % N_CLASSES
    relevance = labels[:, None] == labels
    if multi_label:
        # A pair of neighbouring labels; who shares one is relevant.
        labels = torch.nn.functional.one_hot(labels, N_CLASSES) | torch.nn.functional.one_hot(
            (labels + 1) % N_CLASSES, N_CLASSES
        ) * (torch.arange(60)[:, None] < 20)
        relevance = labels.float() @ labels.float().T > 0
    loss = LEARNABLE[name](labels)
    z = (0.3 * torch.randn(60, N_BITS)).requires_grad_()
    centres = torch.randn(N_CLASSES, 32)
    features = centres[torch.arange(60) % N_CLASSES]
    optimizer = torch.optim.Adam([z, *loss.parameters()], lr=0.1)
    for _ in range(200):
        value = loss(z, features if name == "bihalf" else labels, torch.arange(60))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.step()
    signs = torch.where(z >= 0, 1, -1)
    distances = (N_BITS - signs @ signs.T) // 2
    assert metrics.mean_average_precision(distances.numpy(), relevance.numpy()) > 0.95


@pytest.mark.parametrize("name", MAKERS)
def test_state_dict_is_complete(name):
    torch.manual_seed(0)
    loss = MAKERS[name]()
    call(loss, Z, LABEL_SETS)
    loss.step()
    torch.manual_seed(1)
    resumed = MAKERS[name]()
    resumed.load_state_dict(loss.state_dict())
    assert call(resumed, Z, LABEL_SETS) == call(loss, Z, LABEL_SETS)


@pytest.mark.parametrize("n_classes", [4, 5, 16, 17, 21, 64, 80, 100, 128])
def test_margins_follow_known_codes(n_classes):
    columns = {4: 0, 5: 1, 6: 2, 7: 3}
    table = {
        8: (0, 0.5, 0.5, 0.5),
        12: (0, 0.3333, 0.3333, 0.3333),
        16: (0, 0, 0.25, 0.25),
        24: (0, 0, 0.1667, 0.1667),
        32: (0, 0, 0, 0.125),
        36: (0, 0.0556, 0.1111, 0.1111),
        40: (0, 0, 0.1, 0.1),
        48: (0, 0, 0, 0.0833),
        56: (-0.0357, 0, 0, 0.0714),
        64: (-0.0312, 0, 0, 0),
        128: (-0.0625, 0, 0, 0),
    }
    k = math.ceil(math.log2(n_classes))
    for n_bits, row in table.items():
        if k in columns:
            assert losses.code_margin(n_bits, n_classes) == pytest.approx(row[columns[k]], abs=1e-4)


@pytest.mark.parametrize(
    ("n_bits", "n_classes", "d"), [(8, 300, 1), (7, 16, 3), (23, 4096, 7), (15, 2, 15), (6, 4, 4), (3, 8, 1), (2, 1, 2)]
)
def test_margins_beyond_the_table(n_bits, n_classes, d):
    """Hamming, Golay, repetition and parity codes meet or come near Griesmer's bound."""
    assert losses.code_margin(n_bits, n_classes) <= 1 - 2 * d / n_bits


def test_hadamard_codes_are_far_apart():
    for n_classes, n_bits in ((100, 64), (128, 64), (10, 16)):
        codes = losses.class_codes(n_classes, n_bits)
        distances = (n_bits - codes @ codes.T) / 2
        assert distances.fill_diagonal_(n_bits).min() >= n_bits / 2
        assert (codes == losses.class_codes(n_classes, n_bits, kind="hadamard")).all()
    random = losses.class_codes(10, 48)
    assert set(random.flatten().tolist()) == {-1.0, 1.0}
    assert (random == losses.class_codes(10, 48, kind="random")).all()
    assert (random != losses.class_codes(10, 48, seed=1)).any()


CODES = losses.class_codes(4, 4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: losses.CELLoss(), ValueError, "n_classes or margin must be given, got None for both"),
        (lambda: losses.CELLoss(0), ValueError, "n_classes must be at least 1, got 0"),
        (lambda: losses.CELLoss(margin=2.0), ValueError, r"margin must lie in \[-1, 1\], got 2.0"),
        (lambda: losses.CELLoss(margin="a"), TypeError, "margin must be a number, got 'a'"),
        (
            lambda: losses.DCHLoss(variant="paper"),
            ValueError,
            "variant must be one of 'original', 'hhnet', got 'paper'",
        ),
        (lambda: losses.DCHLoss(gamma=0), ValueError, "gamma must be positive and finite, got 0"),
        (lambda: losses.DCHLoss(quantization=-1), ValueError, "quantization must be finite and not negative, got -1"),
        (lambda: losses.DCHLoss(similar_fraction=2), ValueError, r"similar_fraction must lie in \[0, 1\].* got 2"),
        (lambda: losses.DCHLoss(pairs="some"), ValueError, "pairs must be one of .* got 'some'"),
        (lambda: losses.DHNLoss(quantization=math.nan), ValueError, "quantization must be finite .* got nan"),
        (lambda: losses.DPSHLoss(quantization=None), TypeError, "quantization must be a number, got None"),
        (lambda: losses.WGLHHLoss(alpha=-1), ValueError, "alpha must be positive and finite, got -1"),
        (lambda: losses.WGLHHLoss(pos_weight=math.inf), ValueError, "pos_weight must be finite"),
        (lambda: losses.WGLHHLoss(variant="hhnet", pos_weight=1), ValueError, "pos_weight must be 0 where"),
        (lambda: losses.WGLHHLoss(similar_fraction=0.5), ValueError, "similar_fraction must be None where variant="),
        (lambda: losses.HyP2Loss(0, 4), ValueError, "n_bits must be at least 1, got 0"),
        (lambda: losses.HyP2Loss(4, 2.0), TypeError, "n_classes must be an integer, got 2.0"),
        (lambda: losses.HyP2Loss(4, 4, margin=3), ValueError, r"margin must lie in \[-1, 1\], or be None, got 3"),
        (lambda: losses.HyP2Loss(4, 4, beta=-1), ValueError, "beta must be finite and not negative, got -1"),
        (lambda: losses.HyP2Loss(4, 4, pair_filter="no"), ValueError, "pair_filter must be one of 'multi', 'all'"),
        (lambda: hyp2()(Z[:, :3], LABEL_SETS), ValueError, "z must have n_bits = 4 columns, got 3"),
        (lambda: hyp2()(Z, LABEL_SETS[:, :3]), ValueError, "labels must have n_classes = 4 columns, got 3"),
        (lambda: hyp2()(Z, CLASSES + 2), ValueError, r"labels must lie in 0 \.\. 3, got 2 \.\. 4"),
        (lambda: hyp2()(Z, CLASSES - 1), ValueError, r"labels must lie in 0 \.\. 3, got -1 \.\. 1"),
        (lambda: losses.DNNHLoss(epsilon=0), ValueError, r"epsilon must lie in \(0, 0.5\], got 0"),
        (lambda: losses.DTSHLoss(margin=-1), ValueError, "margin must be finite and not negative, got -1"),
        (lambda: losses.CSQLoss(4, 0), ValueError, "n_classes must be at least 1, got 0"),
        (lambda: losses.CSQLoss(4, 3, codes=CODES), ValueError, r"codes must be a tensor \(3, 4\) of -1 and \+1"),
        (lambda: losses.CSQLoss(4, 4, codes=CODES * 2), ValueError, r"codes must be a tensor \(4, 4\) of -1 and \+1"),
        (lambda: losses.CSQLoss(4, 4)(Z[:, :3], LABEL_SETS), ValueError, "z must have n_bits = 4 columns, got 3"),
        (lambda: losses.DPNLoss(4, 4, margin=0), ValueError, "margin must be positive and finite, got 0"),
        (lambda: losses.OrthoHashLoss(4, 4, scale=0), ValueError, "scale must be positive and finite, got 0"),
        (lambda: losses.OrthoHashLoss(4, 4)(Z[:, :3], CLASSES), ValueError, "z must have n_bits = 4 columns, got 3"),
        (lambda: losses.GreedyHashLoss(4, 4, alpha=-1), ValueError, "alpha must be finite and not negative, got -1"),
        (lambda: losses.GreedyHashLoss(4, 4)(Z[:, :3], CLASSES), ValueError, "z must have n_bits = 4 columns, got 3"),
        (lambda: losses.DSHLoss(margin=0), ValueError, "margin must be positive and finite, got 0"),
        (lambda: losses.IDHNLoss(gamma=-1), ValueError, "gamma must be finite and not negative, got -1"),
        (lambda: losses.MIHashLoss(n_bins=1), ValueError, "n_bins must be at least 2, got 1"),
        (lambda: losses.BiHalfLoss(gamma=-1), ValueError, "gamma must be finite and not negative, got -1"),
        (lambda: losses.BiHalfLoss(pairs=losses.OutputBank(CLASSES, 4)), ValueError, "pairs must be .* got a bank"),
        (lambda: losses.BiHalfLoss()(Z, CLASSES), ValueError, r"labels must be the float features \(B, D\)"),
        (lambda: losses.BiHalfLoss()(Z, LABEL_SETS), ValueError, r"labels must be the float features \(B, D\)"),
        (lambda: losses.DSDHLoss(CLASSES, 4, mu=0), ValueError, "mu must be positive and finite, got 0"),
        (lambda: losses.DSDHLoss(CLASSES, 4, nu=-1), ValueError, "nu must be positive and finite, got -1"),
        (lambda: losses.DSDHLoss(CLASSES, 4, eta=-1), ValueError, "eta must be finite and not negative, got -1"),
        (lambda: losses.DSDHLoss(CLASSES, 4, sweeps=0), ValueError, "sweeps must be at least 1, got 0"),
        (lambda: losses.OutputBank([0, 1], 4), TypeError, "labels must be a torch tensor, got list"),
        (lambda: losses.OutputBank(CLASSES[0], 4), ValueError, r"labels must have shape \(n,\) or \(n, C\), got \(\)"),
        (lambda: losses.DSDHLoss(CLASSES, 4)(Z, CLASSES), ValueError, "index must be given"),
        (lambda: losses.DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX.int()), TypeError, "index must be an int64 tensor"),
        (lambda: losses.DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX[:5]), ValueError, r"index must have shape \(6,\), got"),
        (lambda: losses.DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX + 1), ValueError, r"index must lie in 0 \.\. 5, got"),
        (lambda: losses.DSDHLoss(CLASSES, 8)(Z, CLASSES, INDEX), ValueError, "z must have the 8 columns of the bank"),
        (
            lambda: losses.class_codes(4, 6, kind="hadamard"),
            ValueError,
            "kind='hadamard' needs n_bits to be a power of 2",
        ),
        (lambda: losses.class_codes(9, 4, kind="hadamard"), ValueError, "n_classes at most 2 n_bits"),
        (lambda: losses.class_codes(4, 4, kind="walsh"), ValueError, "kind must be one of"),
        (lambda: losses.code_margin(0, 4), ValueError, "n_bits must be at least 1, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
