"""What no call may take, as (value, error, message); a message begins after the name of the argument."""

import datetime
import fractions
import math

import numpy as np

CODES = np.arange(24, dtype=np.uint8).reshape(3, 8)

# For codes of 64 bits, whatever holds them: the gallery or queries.
CODE_ARRAYS = [
    (CODES.astype(bool), TypeError, "must be a uint8 array of packed bits, got dtype bool; fasthash.pack_bits packs"),
    (CODES.astype(np.int8), TypeError, "must be a uint8 array of packed bits, got dtype int8"),
    (CODES.astype(np.uint16), TypeError, "must be a uint8 array of packed bits, got dtype uint16"),
    (CODES.astype(np.int64), TypeError, "must be a uint8 array of packed bits, got dtype int64"),
    (CODES.astype(np.float32), TypeError, "must be a uint8 array of packed bits, got dtype float32"),
    (CODES.astype(complex), TypeError, "must be a uint8 array of packed bits, got dtype complex128"),
    (CODES.astype(object), TypeError, "must be a uint8 array of packed bits, got dtype object"),
    (CODES.astype(str), TypeError, "must be a uint8 array of packed bits, got dtype <U"),
    (CODES.view("S8"), TypeError, "must be a uint8 array of packed bits, got dtype |S8"),
    (CODES.view([("a", "u1"), ("b", "u1", 7)]), TypeError, "must be a uint8 array of packed bits, got dtype [("),
    (CODES.view("M8[s]"), TypeError, "must be a uint8 array of packed bits, got dtype datetime64[s]"),
    (CODES.tolist(), TypeError, "must be a uint8 array of packed bits, got dtype int64"),
    (b"12345678", TypeError, "must be a uint8 array of packed bits, got dtype |S8"),
    (None, TypeError, "must be a uint8 array of packed bits, got dtype object"),
    (np.ma.masked_array(CODES, CODES > 9), TypeError, "must be an array without a mask, got a masked array"),
    (np.uint8(3), ValueError, "must have shape (n, 8) for 64 bits, got ()"),
    (CODES[None], ValueError, "must have shape (n, 8) for 64 bits, got (1, 3, 8)"),
    (CODES[:, :0], ValueError, "must have shape (n, 8) for 64 bits, got (3, 0)"),
    (CODES[:, :7], ValueError, "must have shape (n, 8) for 64 bits, got (3, 7)"),
    (np.zeros((3, 9), np.uint8), ValueError, "must have shape (n, 8) for 64 bits, got (3, 9)"),
    (CODES.T, ValueError, "must have shape (n, 8) for 64 bits, got (8, 3)"),
]

# For codes alone: of queries, a single code is a batch of one.
ONE_CODE = [
    (CODES[0], ValueError, "must have shape (n, 8) for 64 bits, got (8,); for a single code use code[None]"),
]

_NO_IDS = [
    (np.arange(3, dtype="m8[s]"), "timedelta64[s]"),
    (np.zeros(0), "float64"),
    ([0.0, 1.0, 2.0], "float64"),
    ([0, math.nan, 2], "float64"),
    (["0", "1", "2"], "<U1"),
    ("012", "<U3"),
    ([None, 1, 2], "object"),
    ({0, 1, 2}, "object"),
    (None, "object"),
]
_HINTS = {"<U": "; ids(keys) of a Store or KeyedIndex returns the ids of keys"}  # strings may be keys
_NO_MASKS = [([True, False, True], "bool")]
# Arrays of ids, and filters of ids.
_TOO_LARGE = [
    (np.array([1, 2, 2**63 + 2], np.uint64), ValueError, f"must fit int64, got {2**63 + 2}"),
    (np.array([1, 2, 2**63 + 2], ">u8"), ValueError, f"must fit int64, got {2**63 + 2}"),
    ([2**64, 0, 1], ValueError, f"must fit int64, got {2**64}"),
    ([0, 1, 2**63], ValueError, f"must fit int64, got {2**63}"),
]
ID_ARRAYS = [
    *(
        (ids, TypeError, f"must be an integer array, got dtype {dtype}{_HINTS.get(dtype[:2], '')}")
        for ids, dtype in _NO_IDS + _NO_MASKS
    ),
    *_TOO_LARGE,
]
FILTERS = [
    (ids, TypeError, f"must be an integer array of ids or a bool mask, got dtype {dtype}{_HINTS.get(dtype[:2], '')}")
    for ids, dtype in _NO_IDS
    if ids is not None and not isinstance(ids, set)  # no filter, and a good one
] + [
    *_TOO_LARGE,
    (5, ValueError, "must have one axis, got shape (); use [5] for a single one"),
    (np.bool_(True), ValueError, "must have one axis, got shape ()"),
    (np.array([[0, 1]]), ValueError, "must have one axis, got shape (1, 2)"),
    (np.zeros((1, 0), np.int64), ValueError, "must have one axis, got shape (1, 0)"),
    ({0, True}, TypeError, "must be a set of integers, got one with a bool"),
    ({0, "1"}, TypeError, "must be an integer array of ids or a bool mask, got dtype <U21; ids(keys) of a Store"),
    (range(2**62, 2**64, 2**60), ValueError, "must fit int64, got range("),
    (range(2**33), ValueError, f"must be a range of at most {2**32} ids, got {2**33} in range(0, {2**33})"),
    (np.ones((3, 1), bool), ValueError, "must have one axis, got shape (3, 1)"),
    *(
        (mask, ValueError, f"must be a list of ids, got {len(mask)} integers that are all 0 or 1; a mask must have")
        for mask in ([1, 0, 1], np.zeros(3, np.uint8), np.arange(1000) % 2)
    ),
]
NO_INTEGERS = [
    (value, TypeError, f"must be an integer, got {value!r}")
    for value in (
        *(1.0, 1.5, math.nan, math.inf, "3", None, True, np.True_, [3], np.array([3, 4]), np.float32(3), 3j, b"3"),
        *(fractions.Fraction(3), datetime.timedelta(3)),
    )
]


def named(name, table):
    """The same with the name of the argument."""
    return [(value, error, f"{name} {message}") for value, error, message in table]
