"""Conversion of nested state (optimizers, random generators, counters) to tensors plus plain JSON, and back."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reason_envs.errors import RunError

_MARK = "__"
"""Prefix of keys that mark values which JSON cannot represent."""


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split nested mappings, lists, tuples, tensors, numbers, strings, booleans and ``None``.

    Returns:
        Tensors by their path (``adamw/state/0/exp_avg``), and everything else as strict JSON. Integer keys, tuples and
        numbers that are not finite are marked, so that `unflatten` restores them bit for bit.

    Raises:
        RunError: the state contains a value of another type, which the message names with its path.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _encode(state, "", tensors)


def unflatten(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """Restore what `flatten` split."""
    if isinstance(structure, list):
        return [unflatten(tensors, item) for item in structure]
    if not isinstance(structure, dict):
        return structure
    if "__tensor__" in structure:
        return tensors[structure["__tensor__"]]
    if "__tuple__" in structure:
        return tuple(unflatten(tensors, item) for item in structure["__tuple__"])
    if "__float__" in structure:
        return float(structure["__float__"])
    if "__items__" in structure:
        return {key: unflatten(tensors, value) for key, value in structure["__items__"]}
    return {key: unflatten(tensors, value) for key, value in structure.items()}


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if path in tensors:
            raise RunError(f"Two tensors of the state have the same path {path!r}: rename one of them.")
        tensors[path] = value
        return {"__tensor__": path}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"__float__": repr(float(value))}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise RunError(f"The state has the key {key!r} at {path!r}: keys must be strings or integers.")
        pairs = [(key, _encode(item, _join(path, key), tensors)) for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith(_MARK) for key in value)
        return dict(pairs) if plain else {"__items__": [list(pair) for pair in pairs]}
    if isinstance(value, list | tuple):
        items = [_encode(item, _join(path, i), tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"__tuple__": items}
    raise RunError(
        f"The state contains a {type(value).__name__} at {path!r}: only tensors, numbers, strings, booleans, None, "
        "lists, tuples and mappings can be saved."
    )


def _join(path: str, key: str | int) -> str:
    return f"{path}/{key}" if path else str(key)
