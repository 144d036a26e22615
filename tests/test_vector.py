"""Several episodes are stepped in one batch, and only in the named slots."""

from __future__ import annotations

import asyncio

import pytest
from toys import CountingEngine, Forgetful, Toy, ToyConfig

from reason_envs.errors import ReasonEnvsError
from reason_envs.vector import VectorEpisodes


def build(count, **options):
    engine = CountingEngine()
    return VectorEpisodes.of(Toy(ToyConfig(engine=engine, **options)), count), engine


def test_vector_makes_one_engine_call_per_step():
    vector, engine = build(64)

    async def play():
        await vector.reset(seeds={slot: slot for slot in range(64)})
        for _ in range(3):
            await vector.step({slot: {"solver": f"a{slot}"} for slot in range(64)})

    asyncio.run(play())
    assert engine.ask.calls == 4
    assert [[seed for seed, _, _ in batch] for batch in engine.batches] == [list(range(64))] * 4
    assert vector.live == []


def test_vector_steps_only_named_slots_and_does_not_reset():
    vector, engine = build(3, turns=2)

    async def play():
        first = await vector.reset(seeds={0: 10, 1: 11, 2: 12})
        moved = await vector.step({2: {"solver": "x"}, 0: {"solver": "x"}})
        assert set(first) == {0, 1, 2}
        assert set(moved) == {0, 2}
        assert vector.result(1) is first[1]
        assert [e.state.turn for e in vector.environments] == [1, 0, 1]
        ended = await vector.step({2: {"solver": "y"}})
        assert ended[2].terminated == {"solver": True}
        assert vector.live == [0, 1]
        with pytest.raises(ReasonEnvsError, match=r"Slots \[2\] have no episode"):
            await vector.step({0: {"solver": "y"}, 2: {"solver": "z"}})
        assert vector.environments[0].state.turn == 1
        await vector.reset([2])
        assert vector.live == [0, 1, 2]

    asyncio.run(play())
    assert [[seed for seed, _, _ in batch] for batch in engine.batches[:2]] == [[10, 11, 12], [10, 12]]


def test_episodes_are_the_same_alone_and_in_a_vector():
    async def play(vector, slot, seed):
        results = [(await vector.reset(seeds={slot: seed}))[slot]]
        while slot in vector.live:
            results.append((await vector.step({s: {"solver": "x"} for s in vector.live}))[slot])
        return results

    assert asyncio.run(play(build(1)[0], 0, 7)) == asyncio.run(play(build(5)[0], 3, 7))


def test_slots_continue_their_own_sequence_of_seeds():
    async def seeds(vector, **given):
        await vector.reset(**given)
        return [e.state.seed for e in vector.environments]

    async def play():
        vector, _ = build(4)
        assert len(set(await seeds(vector))) == 4
        assert await seeds(vector, seeds={s: s for s in range(4)}) == [0, 1, 2, 3]
        return await seeds(vector)

    assert asyncio.run(play()) == asyncio.run(play())


def test_vector_explains_wrong_use():
    toy = Toy()
    with pytest.raises(ReasonEnvsError, match="two slots"):
        VectorEpisodes([toy, toy])
    with pytest.raises(ReasonEnvsError, match="at least one"):
        VectorEpisodes([])
    with pytest.raises(ReasonEnvsError, match="num_envs=0 must be at least 1"):
        VectorEpisodes.of(toy, 0)
    vector, _ = build(2)
    with pytest.raises(ReasonEnvsError, match=r"Slots \[2\] do not exist"):
        asyncio.run(vector.reset(seeds={2: 1}))
    with pytest.raises(ReasonEnvsError, match=r"Slots \[0\] have no episode"):
        asyncio.run(vector.step({0: {"solver": "x"}}))


def test_close_closes_every_environment():
    vector, _ = build(2)
    vector.close()
    assert [e.closed for e in vector.environments] == [True, True]


def test_vector_rejects_a_step_without_a_result():
    vector = VectorEpisodes.of(Forgetful(), 2)
    asyncio.run(vector.reset())
    with pytest.raises(ReasonEnvsError, match=r"Forgetful\.step must return a StepResult; it returned None"):
        asyncio.run(vector.step({0: {"solver": "a"}}))
