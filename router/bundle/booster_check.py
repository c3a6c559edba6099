"""A strict reading of LightGBM's text models, done before LightGBM may parse one.

LightGBM trusts its text: a child index out of range reads foreign memory, a cycle never
ends, a length that is wrong aborts the process. The format is that of version v4, as
`GBDT::SaveModelToString` and `Tree::ToString` in LightGBM write it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router.bundle.manifest import ACCURACY
from router.errors import BundleRefused
from router.types import Floats

Integers = NDArray[np.int64]

MAX_TREES = 20_000
MAX_LEAVES = 65_536

_HEADER = (
    "version",
    "num_class",
    "num_tree_per_iteration",
    "label_index",
    "max_feature_idx",
    "objective",
    "feature_names",
    "monotone_constraints",
    "feature_infos",
    "tree_sizes",
)
_OPTIONAL = frozenset(("objective", "monotone_constraints"))
_SPLITS = ("split_feature", "decision_type", "left_child", "right_child", "internal_count")
_SPLIT_FLOATS = ("split_gain", "threshold", "internal_value", "internal_weight")
_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_TREE = frozenset(
    (*_SPLITS, *_SPLIT_FLOATS, *_LEAVES, "num_leaves", "num_cat", "is_linear", "shrinkage")
)
_CATEGORIES = frozenset(("cat_boundaries", "cat_threshold"))

_INTEGERS = re.compile(r"(?:-?[0-9]{1,10}(?: -?[0-9]{1,10})*)?")
_NUMBER = r"-?(?:[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,3})?|inf)"
_NUMBERS = re.compile(rf"(?:{_NUMBER}(?: {_NUMBER})*)?")
_OBJECTIVE = re.compile(r"[a-z_]+(?: [a-z_]+(?::[a-z0-9.e+-]+)?)*")
_TAIL = re.compile(
    r"end of trees\n\nfeature_importances:\n(?:[^\n]+=[0-9.e+-]+\n)*"
    r"\nparameters:\n(?:\[[a-z0-9_]+: [^\n]*\]\n)*\nend of parameters\n"
    r"(?:\npandas_categorical:(?:null|\[\])\n)?"
)


def check(text: bytes, feature_names: Sequence[str]) -> None:
    """Raises BundleRefused unless the text is one sound booster over these columns."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise _refusal("is not UTF-8 text") from None
    head, found, _ = text.partition(b"\n\n")
    if not found:
        raise _refusal("has no header")
    header = _header(head.decode())
    _check_header(header, feature_names)
    sizes = _integers("the header", header, "tree_sizes")
    if not 1 <= len(sizes) <= MAX_TREES or sizes.min() <= 0:
        raise _refusal(f"tree_sizes must give 1 to {MAX_TREES:,} trees their bytes")
    start = len(head) + 2
    ends = start + np.cumsum(sizes)
    if not _TAIL.fullmatch(text[int(ends[-1]) :].decode(errors="replace")):
        raise _refusal("does not end as it should behind its trees; it may be cut off")
    for index, end in enumerate(ends.tolist()):
        _check_tree(index, text[start:end], len(feature_names))
        start = end


def _check_header(header: Mapping[str, str], feature_names: Sequence[str]) -> None:
    fixed = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1"}
    for name, value in fixed.items():
        if header.get(name) != value:
            raise _refusal(f"{name} is {header.get(name)!r:.40}, not {value}")
    if header.get("max_feature_idx") != str(len(feature_names) - 1):
        raise _refusal(f"max_feature_idx does not fit {len(feature_names)} feature names")
    if header.get("feature_names", "").split(" ") != list(feature_names):
        raise _refusal("feature_names are not those of the manifest, in its order")
    if len(header.get("feature_infos", "").split(" ")) != len(feature_names):
        raise _refusal("feature_infos does not fit feature_names")
    if not _OBJECTIVE.fullmatch(header.get("objective", "custom")):
        raise _refusal("objective is not in the form that LightGBM writes")


def _header(text: str) -> Mapping[str, str]:
    first, *lines = text.split("\n")
    if first != "tree":
        raise _refusal("is not a LightGBM text model")
    header = _pairs("the header", lines)
    order = [name for name in _HEADER if name in header]
    if list(header) != order or set(_HEADER) - set(header) - _OPTIONAL:
        raise _refusal("its header has lines that are unknown, missing or out of order")
    return header


def _check_tree(index: int, block: bytes, features: int) -> None:
    where = f"tree {index}"
    lines = block.decode().split("\n")
    if lines[0] != f"Tree={index}" or lines[-3:] != ["", "", ""]:
        raise _refusal(f"{where} is not where tree_sizes says")
    tree = _pairs(where, lines[1:-3])
    leaves, categories = _count(where, tree, "num_leaves"), _count(where, tree, "num_cat")
    if set(tree) != (_TREE | _CATEGORIES if categories else _TREE):
        raise _refusal(f"{where} has lines that are unknown or missing")
    if not 1 <= leaves <= MAX_LEAVES or not 0 <= categories < leaves:
        raise _refusal(f"{where}: num_leaves or num_cat is out of range")
    if tree["is_linear"] != "0":
        raise _refusal(f"{where} has linear leaves, which Leadline does not serve")
    splits = {name: _integers(where, tree, name, leaves - 1) for name in _SPLITS}
    floats = {name: _floats(where, tree, name, leaves - 1) for name in _SPLIT_FLOATS}
    _floats(where, tree, "shrinkage", 1)
    _floats(where, tree, "leaf_value", leaves)
    if leaves > 1:
        _floats(where, tree, "leaf_weight", leaves)
        _integers(where, tree, "leaf_count", leaves)
        _check_shape(where, splits["left_child"], splits["right_child"])
    _check_splits(where, splits, features)
    _check_categories(where, tree, splits["decision_type"], floats["threshold"], categories)


def _check_shape(where: str, left: Integers, right: Integers) -> None:
    """Each leaf and each split but the root has one parent, which stands before it."""
    nodes = np.arange(len(left))
    children = np.concatenate((left, right))
    expected = np.concatenate((np.arange(-len(left) - 1, 0), nodes[1:]))
    once = np.array_equal(np.sort(children), expected)
    if not once or np.any((children >= 0) & (children <= np.tile(nodes, 2))):
        raise _refusal(f"{where}: left_child and right_child do not form a tree")


def _check_splits(where: str, splits: Mapping[str, Integers], features: int) -> None:
    column, kind = splits["split_feature"], splits["decision_type"]
    if np.any((column < 0) | (column >= features)):
        raise _refusal(f"{where}: split_feature names a column that does not exist")
    if np.any((kind < 0) | (kind >= 12)):
        raise _refusal(f"{where}: decision_type is out of range")


def _check_categories(
    where: str, tree: Mapping[str, str], kind: Integers, threshold: Floats, categories: int
) -> None:
    chosen = threshold[(kind & 1) == 1]
    if not np.array_equal(chosen, np.arange(categories)):
        raise _refusal(f"{where}: num_cat and its categorical splits disagree")
    if not categories:
        return
    bounds = _integers(where, tree, "cat_boundaries", categories + 1)
    words = _integers(where, tree, "cat_threshold", int(bounds[-1]))
    if bounds[0] != 0 or np.any(np.diff(bounds) <= 0) or np.any((words < 0) | (words >= 2**32)):
        raise _refusal(f"{where}: cat_boundaries and cat_threshold disagree")


def _pairs(where: str, lines: Sequence[str]) -> Mapping[str, str]:
    split = [line.partition("=") for line in lines]
    pairs = {name: value for name, _, value in split}
    if len(pairs) != len(lines) or not all(equals for _, equals, _ in split):
        raise _refusal(f"{where} has a line that is broken or stands there twice")
    return pairs


def _count(where: str, tree: Mapping[str, str], name: str) -> int:
    return int(_integers(where, tree, name, 1)[0])


def _integers(
    where: str, lines: Mapping[str, str], name: str, length: int | None = None
) -> Integers:
    text = lines.get(name, "")
    if not _INTEGERS.fullmatch(text):
        raise _refusal(f"{where}: {name} is not a list of integers")
    values = np.array([int(token) for token in text.split()], np.int64)
    if length is not None and len(values) != length:
        raise _refusal(f"{where}: {name} has {len(values)} values, not {length}")
    return values


def _floats(where: str, lines: Mapping[str, str], name: str, length: int) -> Floats:
    text = lines[name]  # a threshold may be inf: all numbers on one side, the missing on the other
    if not _NUMBERS.fullmatch(text):
        raise _refusal(f"{where}: {name} is not a list of numbers")
    values = np.array([float(token) for token in text.split()], np.float64)
    if len(values) != length:
        raise _refusal(f"{where}: {name} has {len(values)} values, not {length}")
    if name != "threshold" and not np.all(np.isfinite(values)):
        raise _refusal(f"{where}: {name} is not finite")
    return values


def _refusal(problem: str) -> BundleRefused:
    return BundleRefused(f"{ACCURACY}: {problem}; train the policy anew")
