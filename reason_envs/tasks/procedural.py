"""Generated problems: every dataset of reasoning-gym by its own name, cut into disjoint splits.

Problem ``i`` is a pure function of (seed, i): candidates at addresses derived from both numbers are generated until
one's text falls into the wanted split, so train and test share no problem whatever their seeds.

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
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import reasoning_gym
from reasoning_gym.factory import DATASETS

from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.tasks.base import Split, Task, TaskSet, split_of
from reason_envs.tasks.defaults import FAMILY_DEFAULTS
from reason_envs.tasks.listed import check_count

DEFAULT_SIZE = {"train": 10_000, "test": 2_048}
MAX_ATTEMPTS = 1_000
"""Candidates tried for one problem; with a fifth in the test split, a thousand misses mean there is none."""

_ADDRESSES = 2**32
_LIMITED_ADDRESSES = {"gsm_symbolic": 2**18, "list_functions": 2**18, "acre": 20_000, "word_ladder": 20_000}
"""Datasets that prepare or check their indices beforehand, and how many we ask them for."""
_DRAWS_GLOBALLY = {"codeio", "list_functions", "pool_matrix", "composite"}
"""Datasets that draw from the global generators, and the one that may hold such."""
_HASH_ORDERED = {"isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder"}
"""Datasets that iterate over sets of strings, whose order Python changes from process to process."""


class ProceduralTaskSet(TaskSet):
    """A finite window on one of reasoning-gym's infinite generators."""

    def __init__(self, name: str, split: Split, dataset: Any, addresses: int, size: int, seed: int) -> None:
        """Wrap a dataset.

        Args:
            name: the dataset's name.
            split: which problems are kept.
            dataset: the reasoning-gym dataset.
            addresses: how many different problems it can be asked for.
            size: how many problems this set has.
            seed: picks the problems.
        """
        self.name, self.split, self.size, self.seed = name, split, size, seed
        self._dataset, self._addresses = dataset, addresses

    def __len__(self) -> int:
        """Number of problems."""
        return self.size

    def __getitem__(self, index: int) -> Task:
        """Generate problem ``index``."""
        if not 0 <= index < self.size:
            raise IndexError(f"Problem {index} of {self.name!r} is outside 0..{self.size - 1}.")
        entry = self._first_in_split(index)
        answer = "" if entry["answer"] is None else str(entry["answer"])
        return Task(f"{self.name}/{self.split}/{self.seed}/{index}", entry["question"], answer, entry["metadata"])

    def _first_in_split(self, index: int) -> dict[str, Any]:
        for attempt in range(MAX_ATTEMPTS):
            address = derive_seed(self.seed, index, attempt) % self._addresses
            with _own_global_randomness(self.name, address):
                entry = self._dataset[address]
            if split_of(entry["question"]) == self.split:
                return entry
        raise ReasonEnvsError(
            f"None of {MAX_ATTEMPTS} problems of {self.name!r} falls into the {self.split} split: its options allow "
            "too few different problems. Widen their ranges."
        )


def procedural(name: str, split: Split, **options: Any) -> ProceduralTaskSet:
    """Build the set of problems of one reasoning-gym dataset; see ``option_defaults`` for its options."""
    settings = {**option_defaults(name), **options}
    size = DEFAULT_SIZE[split] if settings["size"] is None else check_count("size", settings["size"])
    if settings["max_samples"] is not None:
        size = min(size, check_count("max_samples", settings["max_samples"]))
    if not isinstance(settings["seed"], int):
        raise ReasonEnvsError(f"seed is a whole number, not {settings['seed']!r}.")
    if name in _HASH_ORDERED and sys.flags.hash_randomization:
        warnings.warn(
            f"Problems of {name!r} depend on the order of Python's string sets; set PYTHONHASHSEED=0 to get the same "
            "ones in every process.",
            stacklevel=3,
        )
    config = {**FAMILY_DEFAULTS.get(name, {}), **{k: v for k, v in options.items() if k not in _own_options()}}
    addresses = _address_count(name, config)
    dataset = _create(name, config, addresses)
    return ProceduralTaskSet(name, split, dataset, addresses, size, settings["seed"])


@cache
def family_names() -> frozenset[str]:
    """Return the names of reasoning-gym's datasets."""
    return frozenset(DATASETS)


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
        parts = [part.get("name") for part in config.get("datasets") or []]
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
