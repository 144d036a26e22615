"""Generated tasks: every dataset of reasoning-gym by its name, with disjoint splits (see `GeneratedTaskSet`).

The answer is one number or expression, which suits mathematical grading, in ``basic_arithmetic``,
``bitwise_arithmetic``, ``chain_sum``, ``complex_arithmetic``, ``count_bits``, ``count_primes``,
``decimal_arithmetic``, ``decimal_chain_sum``, ``fraction_simplification``, ``gcd``, ``gsm_symbolic``, ``lcm``,
``leg_counting``, ``letter_counting``, ``number_sequence``, ``polynomial_multiplication``, ``power_function``,
``products``, ``simple_equations``, ``simple_geometry``.
``codeio`` runs public programs inside this process, as reasoning-gym warns.
The other datasets have answers in words, grids or programs, sometimes several answers or no gold answer (``""``). To
score a text for them, call ``reasoning_gym.get_score_answer_fn(task.metadata["source_dataset"])(text, entry)`` with the
entry ``{"question": task.question, "answer": task.answer, "metadata": task.metadata}``.
"""

import dataclasses
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import reasoning_gym
from reasoning_gym.factory import DATASETS

from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.tasks.base import Split
from reason_envs.tasks.generated.base import GeneratedTaskSet, Problem, checked_size
from reason_envs.validation import default_of

FAMILY_NAMES = frozenset(DATASETS)
"""Names of all datasets of reasoning-gym."""
FAMILY_DEFAULTS: dict[str, dict[str, int]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2}
}
"""Defaults of options that differ from reasoning-gym's. The embedded model was trained on sums of this size."""
_COMMON_OPTIONS = {"size": None, "seed": 0, "max_samples": None}
_ADDRESSES = 2**32
_LIMITED_ADDRESSES = {"gsm_symbolic": 2**18, "list_functions": 2**18, "acre": 20_000, "word_ladder": 20_000}
"""Number of indices of the datasets that prepare or check their indices beforehand."""
_DRAWS_GLOBALLY = {"codeio", "list_functions", "pool_matrix", "composite"}
"""Datasets that use global random generators, and ``composite``, which can have such parts."""
_HASH_ORDERED = {"isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder"}
"""Datasets that iterate over sets of strings, whose order differs between Python processes."""


def family(name: str) -> Callable[..., GeneratedTaskSet]:
    """Return a function ``(split, **options)`` that builds the tasks of a dataset. Its signature has the options."""
    defaults = option_defaults(name)

    def build(split: Split, **options: Any) -> GeneratedTaskSet:
        settings = {**defaults, **options}
        size = checked_size(split, settings["size"], settings["seed"], settings["max_samples"])
        if name in _HASH_ORDERED and sys.flags.hash_randomization:
            warnings.warn(
                f"Tasks of {name!r} depend on the order of Python's string sets: set PYTHONHASHSEED=0 for the same "
                "tasks in every process.",
                stacklevel=2,
            )
        config = {**FAMILY_DEFAULTS.get(name, {}), **{k: v for k, v in options.items() if k not in _COMMON_OPTIONS}}
        addresses = _address_count(name, config)
        dataset = _create(name, config, addresses)

        def draw(address: int) -> Problem:
            with _seeded_global_random(name, address):
                entry = dataset[address]
            return entry["question"], "" if entry["answer"] is None else str(entry["answer"]), entry["metadata"]

        return GeneratedTaskSet(name, split, draw, size, settings["seed"], addresses)

    kinds = inspect.Parameter
    parameters = [kinds(option, kinds.KEYWORD_ONLY, default=default) for option, default in defaults.items()]
    build.__signature__ = inspect.Signature([kinds("split", kinds.POSITIONAL_OR_KEYWORD), *parameters])  # type: ignore[attr-defined]
    dataset_class = DATASETS[name][0]
    description = (dataset_class.__doc__ or "").strip().split("\n")[0]
    build.__doc__ = f"{dataset_class.__module__.split('.')[1]}: {description}"
    return build


def option_defaults(name: str) -> dict[str, Any]:
    """Return the options of a dataset with their defaults.

    They are the fields of its configuration, ``size`` (number of tasks; ``None``: 10,000 for train and 2,048 for test),
    ``seed`` (seed of the tasks) and ``max_samples`` (maximum number of tasks; ``None``: all).
    """
    fields = {field.name: default_of(field) for field in dataclasses.fields(DATASETS[name][1])}
    return {**fields, **FAMILY_DEFAULTS.get(name, {}), **_COMMON_OPTIONS}


def _address_count(name: str, config: Mapping[str, Any]) -> int:
    if name == "composite":
        given = config.get("datasets") or []
        if not isinstance(given, Sequence) or not all(isinstance(part, Mapping) for part in given):
            raise OptionError("datasets", given, "must be a list such as [{name: gcd, weight: 2}].")
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
        with _seeded_global_random(name, 0):
            return reasoning_gym.create_dataset(name, seed=0, **config)
    except (AssertionError, TypeError, ValueError) as error:
        raise ReasonEnvsError(f"The dataset {name!r} of reasoning-gym refuses the options {config}: {error}") from error


def _plain(value: Any) -> Any:
    # reasoning-gym requires lists and dicts; configuration libraries pass similar types
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | tuple):
        return [_plain(item) for item in value]
    return value


@contextmanager
def _seeded_global_random(name: str, seed: int) -> Iterator[None]:
    """Seed the global generators for datasets that use them, and restore their state afterwards."""
    if name not in _DRAWS_GLOBALLY:  # saving the state takes longer than drawing most tasks
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
