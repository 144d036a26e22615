"""Addressed seeds, episode sequences and forks."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import Forgetful, Toy

from reason_envs.core import ResultError, StepResult, advance, begin, derive_seed
from reason_envs.errors import ReasonEnvsError

ADDRESSES = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4)


def test_derive_seed_known_values():
    assert derive_seed(0) == 7210762507766007076
    assert derive_seed(7, "solver", 2, 0) == 6162288708340619165


@given(ADDRESSES, ADDRESSES)
def test_derive_seed_separates_addresses(first, second):
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)
    assert 0 <= derive_seed(*first) < 2**63


def test_numbers_and_their_text_are_different_addresses():
    assert derive_seed(1, 2) != derive_seed("1", 2) != derive_seed(12)


@pytest.mark.parametrize("number", [np.int64(7), np.uint8(7), np.array(7)])
def test_numbers_of_numpy_are_the_same_addresses(number):
    assert derive_seed(number, np.str_("solver"), 2, 0) == derive_seed(7, "solver", 2, 0) == 6162288708340619165
    seed = Toy().episode_seed(number)
    assert (seed, type(seed)) == (7, int)


def test_what_is_no_whole_number_is_no_address():
    with pytest.raises(TypeError, match="float"):
        derive_seed(1.0)


def test_episode_seeds_form_a_sequence_that_a_seed_restarts():
    def seeds(toy):
        return [toy.episode_seed(s) for s in (5, None, None, 5, None)]

    first = seeds(Toy())
    assert first == seeds(Toy())
    assert first[:3] == [5, derive_seed(5, "episode", 1), derive_seed(5, "episode", 2)]
    assert first[3:] == first[:2]


def test_unseeded_environments_draw_their_own_base():
    assert Toy().episode_seed(None) != Toy().episode_seed(None)


def _answers(toy, actions):
    async def play():
        return [(await toy.step({"solver": a})).final_observations or toy.state.answers[-1] for a in actions]

    return asyncio.run(play())


def test_forks_replay_and_leave_the_original_alone():
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


def test_a_new_key_takes_a_running_episode():
    with pytest.raises(ReasonEnvsError, match=r"fork\(seed=1\).*call reset first"):
        Toy().fork(seed=1)
    assert Toy().fork().state is None


def test_a_result_without_observations_is_done():
    assert StepResult({}).done
    assert not StepResult({"solver": "go"}).done


def test_a_sound_result_is_passed_on():
    toy = Toy()
    asyncio.run(begin(toy, seed=3, options={"task": "ignored"}))
    assert toy.state.seed == 3
    for reward in (1, 0.5, True, np.bool_(True), np.float32(2), np.int64(3)):
        toy.step = Answers(StepResult({}, {"solver": reward}))
        assert asyncio.run(advance(toy, {"solver": "a"})).rewards["solver"] is reward


class Answers:
    """A method that returns what it was given."""

    def __init__(self, value):
        self.value = value

    async def __call__(self, *args, **kwargs):
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            None,
            r"Toy\.reset returned None \(NoneType\), which is no StepResult\. End every way through it with `return ",
        ),
        (({}, {}), r"Toy\.reset returned \(\{\}, \{\}\) \(tuple\), which is no StepResult"),
        (StepResult({}), r"Toy\.reset returned no observations: nobody would act in this episode"),
        (
            StepResult("go"),
            r"Toy\.reset returned observations='go' \(str\), which is no dict\. Write observations=\{agent: value\}",
        ),
        (StepResult({}, 0.5), r"Toy\.reset returned rewards=0\.5 \(float\), which is no dict"),
        (StepResult({}, {}, True), r"Toy\.reset returned terminated=True \(bool\), which is no dict"),
        (
            StepResult({}, info=None),
            r"Toy\.reset returned info=None \(NoneType\), which is no dict\. Write info=\{name: value\}",
        ),
        (
            StepResult({}, {"solver": None}),
            r"Toy\.reset pays 'solver' None \(NoneType\), which is no number\. Pay a float",
        ),
        (StepResult({}, {"solver": "1"}), r"Toy\.reset pays 'solver' '1' \(str\), which is no number"),
    ],
)
def test_what_is_no_sound_result_is_refused(value, message):
    toy = Toy()
    toy.reset = Answers(value)
    with pytest.raises(ResultError, match=message) as refused:
        asyncio.run(begin(toy))
    assert str(refused.value).endswith("`python -m reason_envs.check ENVIRONMENT` checks the rest.")


def test_what_cannot_be_awaited_is_refused():
    class Synchronous(Toy):
        def step(self, actions):
            return StepResult({})

    with pytest.raises(
        ResultError, match=r"Synchronous\.step is no coroutine: it returned StepResult.*`async def step`"
    ):
        asyncio.run(advance(Synchronous(), {}))
    with pytest.raises(ResultError, match=r"Forgetful\.step returned None"):
        asyncio.run(_begun_and_advanced(Forgetful()))


async def _begun_and_advanced(toy):
    await begin(toy)
    await advance(toy, {"solver": "a"})
