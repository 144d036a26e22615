"""Addressed seeds, episode sequences and forks."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Forgetful, Toy

from reason_envs.core import ResultError, StepResult, checked_reset, checked_step, derive_seed
from reason_envs.errors import ReasonEnvsError

ADDRESSES = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4)


def test_derive_seed_returns_known_values():
    assert derive_seed(0) == 7210762507766007076
    assert derive_seed(7, "solver", 2, 0) == 6162288708340619165


@given(ADDRESSES, ADDRESSES)
def test_derive_seed_separates_addresses(first, second):
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)
    assert 0 <= derive_seed(*first) < 2**63


def test_derive_seed_separates_numbers_from_their_text():
    assert derive_seed(1, 2) != derive_seed("1", 2) != derive_seed(12)


@pytest.mark.parametrize("number", [np.int64(7), np.uint8(7), np.array(7)])
def test_derive_seed_treats_numpy_integers_as_integers(number):
    assert derive_seed(number, np.str_("solver"), 2, 0) == derive_seed(7, "solver", 2, 0) == 6162288708340619165
    seed = Toy().episode_seed(number)
    assert (seed, type(seed)) == (7, int)


def test_derive_seed_rejects_floats():
    with pytest.raises(TypeError, match="float"):
        derive_seed(1.0)


def test_episode_seed_starts_a_sequence():
    def seeds(toy):
        return [toy.episode_seed(s) for s in (5, None, None, 5, None)]

    first = seeds(Toy())
    assert first == seeds(Toy())
    assert first[:3] == [5, derive_seed(5, "episode", 1), derive_seed(5, "episode", 2)]
    assert first[3:] == first[:2]


def test_unseeded_environments_draw_different_seeds():
    assert Toy().episode_seed(None) != Toy().episode_seed(None)


def _answers(toy, actions):
    async def play():
        return [(await toy.step({"solver": a})).final_observations or toy.state.answers[-1] for a in actions]

    return asyncio.run(play())


def test_fork_repeats_draws_and_leaves_the_original_unchanged():
    toy = Toy()
    asyncio.run(toy.reset(seed=3))
    fork, rekeyed = toy.fork(), toy.fork(seed=1)
    before = list(toy.state.answers)
    fork_answers = _answers(fork, "ab")
    assert toy.state.answers == before
    assert toy.state.turn == 0
    assert _answers(toy, "ab") == fork_answers
    assert _answers(rekeyed, "ab") != fork_answers
    assert fork.engine is toy.engine


def test_fork_with_a_seed_needs_an_episode():
    with pytest.raises(ReasonEnvsError, match=r"fork\(seed=1\).*call reset first"):
        Toy().fork(seed=1)
    assert Toy().fork().state is None


def test_step_result_without_observations_is_done():
    assert StepResult({}).done
    assert not StepResult({"solver": "go"}).done


def test_checked_reset_and_step_return_valid_results():
    toy = Toy()
    asyncio.run(checked_reset(toy, seed=3, options={"task": "ignored"}))
    assert toy.state.seed == 3
    for reward in (1, 0.5, True, np.bool_(True), np.float32(2), np.int64(3)):
        toy.step = Answers(StepResult({}, {"solver": reward}))
        assert asyncio.run(checked_step(toy, {"solver": "a"})).rewards["solver"] is reward


class Answers:
    """A method that returns its argument."""

    def __init__(self, value):
        self.value = value

    async def __call__(self, *args, **kwargs):
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"Toy\.reset must return a StepResult; it returned None \(NoneType\)\. End every path with `return "),
        (({}, {}), r"Toy\.reset must return a StepResult; it returned \(\{\}, \{\}\) \(tuple\)"),
        (StepResult({}), r"Toy\.reset returned no observations, so no agent can act"),
        (
            StepResult("go"),
            r"Toy\.reset must return a dict as observations; it returned 'go' \(str\)\. Write observations=\{agent: ",
        ),
        (StepResult({}, 0.5), r"Toy\.reset must return a dict as rewards; it returned 0\.5 \(float\)"),
        (StepResult({}, {}, True), r"Toy\.reset must return a dict as terminated; it returned True \(bool\)"),
        (
            StepResult({}, info=None),
            r"Toy\.reset must return a dict as info; it returned None \(NoneType\)\. Write info=\{name: value\}",
        ),
        (
            StepResult({}, {"solver": None}),
            r"Toy\.reset must return numbers as rewards; it returned None \(NoneType\) for 'solver'\. Return a float",
        ),
        (StepResult({}, {"solver": "1"}), r"Toy\.reset must return numbers as rewards; it returned '1' \(str\) for"),
    ],
)
def test_checked_reset_rejects_invalid_results(value, message):
    toy = Toy()
    toy.reset = Answers(value)
    with pytest.raises(ResultError, match=message) as refused:
        asyncio.run(checked_reset(toy))
    assert str(refused.value).endswith("`python -m reason_envs.check ENVIRONMENT` checks the rest.")


def test_checked_step_rejects_a_synchronous_step():
    class Synchronous(Toy):
        def step(self, actions):
            return StepResult({})

    with pytest.raises(
        ResultError, match=r"Synchronous\.step is not a coroutine function: it returned StepResult.*`async def step`"
    ):
        asyncio.run(checked_step(Synchronous(), {}))
    with pytest.raises(ResultError, match=r"Forgetful\.step must return a StepResult; it returned None"):
        asyncio.run(_reset_and_step(Forgetful()))


async def _reset_and_step(toy):
    await checked_reset(toy)
    await checked_step(toy, {"solver": "a"})
