"""Widths that are no multiple of 8 can be named wherever codes of padded bytes come in."""

import numpy as np
import pytest

import fasthash as fh

WIDTHS = [1, 19, 42, 65]


def padded(n_bits, n=40, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2, (n, n_bits))
    return bits, fh.pack_bits(bits)


def distances(bits):
    return (bits[:, None] != bits).sum(axis=2)


@pytest.mark.parametrize("n_bits", WIDTHS)
@pytest.mark.parametrize("cls", [fh.FlatIndex, fh.HierIndex])
@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_from_arrays(cls, n_bits, metric):
    bits, codes = padded(n_bits)
    index = cls.from_arrays(codes, n_bits=n_bits, metric=metric)
    assert (index.n_bits, index.level_bits, index.metric) == (n_bits, (n_bits,), metric)
    if metric == "hamming":
        assert index.search(codes, 40).distances.tolist() == np.sort(distances(bits), axis=1).tolist()
    assert np.array_equal(index.to_arrays()[0], codes)


def test_levels_or_a_width():
    codes = padded(42)[1]
    assert fh.HierIndex.from_arrays(codes).level_bits == (48,)
    assert fh.HierIndex.from_arrays(codes, level_bits=42).level_bits == (42,)
    assert fh.HierIndex.from_arrays(codes, level_bits=(8, 34)).level_bits == (8, 34)
    with pytest.raises(ValueError, match="n_bits must be left out beside level_bits, got n_bits = 42"):
        fh.HierIndex.from_arrays(codes, level_bits=(8, 34), n_bits=42)
    with pytest.raises(ValueError, match=r"codes must have shape \(n, 5\) for 40 bits, got \(40, 6\)"):
        fh.HierIndex.from_arrays(codes, n_bits=40)
    with pytest.raises(ValueError, match="n_bits must be at least 1, got 0"):
        fh.HierIndex.from_arrays(codes, n_bits=0)
    with pytest.raises(ValueError, match=r"codes .*41"):
        fh.HierIndex.from_arrays(np.full((2, 6), 255, np.uint8), n_bits=41)  # padding bits are set


def test_a_named_width_allows_codes_that_look_like_bits():
    codes = np.tile(np.array([0, 1], np.uint8), (3, 8))
    with pytest.raises(ValueError, match="codes must be packed"):
        fh.HierIndex.from_arrays(codes)
    assert fh.HierIndex.from_arrays(codes, n_bits=128).n_bits == 128


@pytest.mark.parametrize("n_bits", WIDTHS)
@pytest.mark.parametrize("name", ["HammingNeighbors", "JaccardNeighbors"])
def test_estimators_of_packed_codes(name, n_bits):
    estimator = getattr(pytest.importorskip("fasthash.neighbors"), name)
    bits, codes = padded(n_bits)
    of_bits, packed = estimator().fit(bits), estimator(packed=True, n_bits=n_bits).fit(codes)
    assert packed.n_bits_ == of_bits.n_bits_ == n_bits
    for given, expected in zip(packed.kneighbors(codes), of_bits.kneighbors(bits), strict=True):
        assert given.tolist() == expected.tolist()
    with pytest.raises(ValueError, match=f"n_bits must be None where packed=False, .*, got {n_bits}"):
        estimator(n_bits=n_bits).fit(bits)
    with pytest.raises(ValueError, match=r"X must have shape \(n, 25\) for 200 bits"):
        estimator(packed=True, n_bits=200).fit(codes)


def test_shards():
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    from fasthash._checks import check_codes_and_layout
    from fasthash.distributed import ShardedIndex

    codes = padded(42)[1]
    assert check_codes_and_layout(codes, None, 42)[1] == (42,)
    for call in (
        lambda: ShardedIndex((8, 34), n_bits=42),  # before Ray is asked for anything
        lambda: ShardedIndex.from_arrays(codes, level_bits=(8, 34), n_bits=42),
    ):
        with pytest.raises(ValueError, match="n_bits must be left out beside level_bits, got n_bits = 42"):
            call()


def test_command_line(tmp_path):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from fasthash.cli import app

    codes = padded(42)[1]
    np.save(tmp_path / "codes.npy", codes)
    np.savez(tmp_path / "codes.npz", codes=codes)
    for name in ("codes.npy", "codes.npz"):
        for output in (f"{name}.fh", f"{name}.fhs"):
            arguments = ["build", str(tmp_path / name), "-o", str(tmp_path / output), "--bits", "42"]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            assert "40 codes of 42 bits" in result.output
    assert fh.load(tmp_path / "codes.npy.fh").level_bits == (42,)
