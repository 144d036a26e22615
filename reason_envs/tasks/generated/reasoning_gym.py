"""Generated problems: every dataset of reasoning-gym by its own name, cut into disjoint splits (see ``generated``).

Suited to grading by mathematical equality (one number or expression as the answer): ``basic_arithmetic``,
``bitwise_arithmetic``, ``chain_sum``, ``complex_arithmetic``, ``count_bits``, ``count_primes``,
``decimal_arithmetic``, ``decimal_chain_sum``, ``fraction_simplification``, ``gcd``, ``gsm_symbolic``, ``lcm``,
``leg_counting``, ``letter_counting``, ``number_sequence``, ``polynomial_multiplication``, ``power_function``,
``products``, ``simple_equations``, ``simple_geometry``.
``codeio`` runs the public programs that it asks about inside this process, as reasoning-gym warns.
The others answer in words, grids or programs, some in several ways or without a gold answer (``""`` here); for them
``reasoning_gym.get_score_answer_fn(task.metadata["source_dataset"])(text, entry)`` scores a text, where ``entry`` is
``{"question": task.question, "answer": task.answer, "metadata": task.metadata}``.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import reasoning_gym
from reasoning_gym.factory import DATASETS

from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, checked_size
from reason_envs.tasks.generated.defaults import FAMILY_DEFAULTS

OWN_FAMILIES = frozenset({"sokoban", "sudoku"})
"""Names that mean our own problems; reasoning-gym's datasets of these names are parts of ``composite``."""
_ADDRESSES = 2**32
_LIMITED_ADDRESSES = {"gsm_symbolic": 2**18, "list_functions": 2**18, "acre": 20_000, "word_ladder": 20_000}
"""Datasets that prepare or check their indices beforehand, and how many we ask them for."""
_DRAWS_GLOBALLY = {"codeio", "list_functions", "pool_matrix", "composite"}
"""Datasets that draw from the global generators, and the one that may hold such."""
_HASH_ORDERED = {"isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder"}
"""Datasets that iterate over sets of strings, whose order Python changes from process to process."""


def procedural(name: str, split: Split, **options: Any) -> GeneratedTaskSet:
    """Build the set of problems of one reasoning-gym dataset; see ``option_defaults`` for its options."""
    settings = {**option_defaults(name), **options}
    size = checked_size(split, settings["size"], settings["seed"], settings["max_samples"])
    if name in _HASH_ORDERED and sys.flags.hash_randomization:
        warnings.warn(
            f"Problems of {name!r} depend on the order of Python's string sets; set PYTHONHASHSEED=0 to get the same "
            "ones in every process.",
            stacklevel=3,
        )
    config = {**FAMILY_DEFAULTS.get(name, {}), **{k: v for k, v in options.items() if k not in _own_options()}}
    addresses = _address_count(name, config)
    dataset = _create(name, config, addresses)

    def draw(address: int) -> Problem:
        with _own_global_randomness(name, address):
            entry = dataset[address]
        answer = "" if entry["answer"] is None else str(entry["answer"])
        return entry["question"], answer, entry["metadata"]

    return GeneratedTaskSet(name, split, draw, size, settings["seed"], addresses)


def family(name: str) -> Callable[..., GeneratedTaskSet]:
    """Return a function ``(split, **options)`` that builds a dataset's tasks; its signature has the options."""

    def build(split: Split, **options: Any) -> GeneratedTaskSet:
        return procedural(name, split, **options)

    kinds = inspect.Parameter
    options = [kinds(option, kinds.KEYWORD_ONLY, default=default) for option, default in option_defaults(name).items()]
    build.__signature__ = inspect.Signature([kinds("split", kinds.POSITIONAL_OR_KEYWORD), *options])  # type: ignore[attr-defined]
    build.__doc__ = summary(name)
    return build


@cache
def family_names() -> frozenset[str]:
    """Return the names of reasoning-gym's datasets, without those under which we have problems of our own."""
    return frozenset(DATASETS) - OWN_FAMILIES


def option_defaults(name: str) -> dict[str, Any]:
    """Return a dataset's options with their defaults.

    They are the fields of its configuration, and ``size`` (``None``: 10,000 for train, 2,048 for test), ``seed`` and
    ``max_samples`` (the first ones).
    """
    fields = {field.name: _default(field) for field in dataclasses.fields(DATASETS[name][1])}
    return {**fields, **FAMILY_DEFAULTS.get(name, {}), **_own_options()}


def summary(name: str) -> str:
    """Return a dataset's category and the first line on what it does."""
    dataset_class = DATASETS[name][0]
    parts = dataset_class.__module__.split(".")
    description = (dataset_class.__doc__ or "").strip().split("\n")[0]
    return f"{parts[1]}: {description}"


def _own_options() -> dict[str, Any]:
    return {"size": None, "seed": 0, "max_samples": None}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _address_count(name: str, config: Mapping[str, Any]) -> int:
    if name == "composite":
        given = config.get("datasets") or []
        if not isinstance(given, Sequence) or not all(isinstance(part, Mapping) for part in given):
            raise ReasonEnvsError(f"composite's datasets is a list such as [{{name: gcd, weight: 2}}], not {given!r}.")
        parts = [part.get("name") for part in given]
        return min((_LIMITED_ADDRESSES.get(part, _ADDRESSES) for part in parts), default=_ADDRESSES)
    return _LIMITED_ADDRESSES.get(name, _ADDRESSES)


def _create(name: str, config: dict[str, Any], addresses: int) -> Any:
    config = {key: _plain(value) for key, value in config.items()}
    if name == "composite":
        from reasoning_gym.composite import DatasetSpec

        parts = [{"weight": 1.0, "config": {}, **part} for part in config.get("datasets", [])]
        config["datasets"] = [DatasetSpec(**part) for part in parts]
    if addresses < _ADDRESSES:
        config["size"] = addresses
    try:
        with _own_global_randomness(name, 0):
            return reasoning_gym.create_dataset(name, seed=0, **config)
    except (AssertionError, TypeError, ValueError) as error:
        raise ReasonEnvsError(f"reasoning-gym's {name!r} refuses the options {config}: {error}") from error


def _plain(value: Any) -> Any:
    # reasoning-gym checks for lists and dicts, configuration libraries pass look-alikes
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "__iter__") and not isinstance(value, str | tuple):
        return [_plain(item) for item in value]
    return value


@contextmanager
def _own_global_randomness(name: str, seed: int) -> Iterator[None]:
    """Give datasets that draw from the global generators a state of their own, and restore the user's."""
    if name not in _DRAWS_GLOBALLY:  # saving the state takes longer than most problems
        yield
        return
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
