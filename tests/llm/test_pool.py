"""Pools of replicas: routing, episodes that stay, lost replicas, and weights of all replicas."""

import asyncio
from functools import partial

import pytest
import torch
from pool_toys import SeededEngine, ToyPool, request

from reason_envs.batching import gather
from reason_envs.errors import EngineError, RunError
from reason_envs.llm.engine import BASE_MODEL
from reason_envs.llm.pool import RESTARTS

slow = partial(SeededEngine, 0.3)


def weights(value):
    return {"w": torch.full((2,), value)}


@pytest.fixture
def make():
    pools = []

    def make_pool(*arguments, **options):
        pools.append(ToyPool(*arguments, **options))
        return pools[-1]

    yield make_pool
    for toy in pools:
        toy.pool.close()


def tokens(pool, seeds):
    async def ask():
        return await asyncio.gather(*(pool.generate(request(seed)) for seed in seeds))

    return [generation.token_ids for (generation,) in asyncio.run(ask())]


def seeds(toy, number):
    return [asked.seed for asked in toy.requests(number)]


def test_pool_has_the_attributes_of_its_engine(make):
    pool = make(2).pool
    assert pool.capabilities == SeededEngine.capabilities
    assert (pool.dtype, pool.continuous) == (torch.float32, True)


def test_requests_go_to_the_replica_with_the_fewest_running_tokens(make):
    toy = make(2, slow)

    async def ask():
        calls = [request(0, max_tokens=30), request(1, max_tokens=10), request(2, n=2), request(3), request(4)]
        await asyncio.gather(*(toy.pool.generate(call) for call in calls))

    asyncio.run(ask())  # tokens: 30 and 0, 30 and 10, 30 and 30, 40 and 30, 40 and 40
    assert seeds(toy, 0) == [0, 3]
    assert seeds(toy, 1) == [1, 2, 4]


@pytest.mark.parametrize("continuous", [True, False])
def test_calls_of_an_episode_stay_on_one_replica(make, continuous):
    toy = make(3, partial(SeededEngine, 0.01, continuous=continuous))

    async def episode(number):
        for turn in range(4):
            await gather(*(toy.pool.generate(request(100 * number + 10 * turn + i)) for i in range(1 + number % 3)))

    async def play():
        await gather(*(episode(number) for number in range(9)))

    asyncio.run(play())
    asked = [{seed // 100 for seed in seeds(toy, number)} for number in range(3)]
    assert sorted(episode for part in asked for episode in part) == list(range(9))
    assert all(len(part) >= 2 for part in asked)


def test_requests_that_wait_together_stay_together_in_engines_that_do_not_batch_continuously(make):
    toy = make(1, partial(SeededEngine, continuous=False))

    async def play():
        await gather(*(toy.pool.generate(request(seed)) for seed in range(5)))

    asyncio.run(play())
    assert toy.started[0].calls == ["open", "generate"]
    assert seeds(toy, 0) == list(range(5))


@pytest.mark.parametrize("continuous", [True, False])
def test_requests_of_a_lost_replica_get_the_same_tokens_from_another(make, continuous):
    expected = tokens(make(1).pool, range(6))
    toy = make(2, partial(SeededEngine, 0.3, continuous=continuous))
    toy.pool.load_weights(weights(2.0), version=7)

    async def ask():
        calls = asyncio.ensure_future(asyncio.gather(*(toy.pool.generate(request(seed)) for seed in range(6))))
        await asyncio.sleep(0.15)
        await asyncio.to_thread(toy.kill, 0)
        return await calls

    answers = [generation for (generation,) in asyncio.run(ask())]
    assert [answer.token_ids for answer in answers] == expected
    assert {answer.policy_version for answer in answers} == {7}
    assert sorted(seeds(toy, 1)) == list(range(6)) or len(toy.started) == 3


def test_restarted_replica_gets_present_weights_and_checks_before_requests(make, tmp_path):
    toy = make(2)
    (tmp_path / "adapter.safetensors").write_bytes(b"adapter")
    toy.pool.load_weights(weights(1.0), version=1)
    toy.pool.load_weights(weights(3.0), version=2)
    toy.pool.load_weights(tmp_path, 2, "coder")
    digest = toy.pool.weights_digest("coder")
    scores = asyncio.run(toy.pool.score([1, 5], 1))
    toy.kill(0)
    assert toy.pool.weights_digest("coder") == digest
    assert asyncio.run(toy.pool.score([1, 5], 1)) == scores == [1.0]
    new = toy.started[2]
    assert new.calls[:5] == ["open", "load_weights", "load_weights", "weights_digest", "score"]
    assert new.engine.weights["coder"] == {"adapter.safetensors": b"adapter"}
    assert new.engine.weights[None]["w"].tolist() == [3.0, 3.0]
    assert toy.started[0].is_closed
    tokens(toy.pool, range(4))
    assert new.calls[-1] == "generate"


def test_weights_are_those_of_the_call_although_the_learner_changes_its_own(make):
    toy, present = make(2), weights(1.0)
    toy.pool.load_weights(present, version=1)
    before = toy.pool.weights_digest()
    present["w"].fill_(9.0)
    toy.kill(1)
    assert [toy.pool.weights_digest() for _ in range(2)] == [before, before]  # the second call waits for the restart
    assert toy.started[2].engine.weights[None]["w"].tolist() == [1.0, 1.0]


def test_weights_of_every_type_and_shape_arrive_unchanged(make):
    half = torch.randn(3, 5).to(torch.bfloat16)
    source = {"half": half, "column": torch.randn(4, 6).T, "scalar": torch.tensor(7)}
    toy = make(2)
    toy.pool.load_weights(source, version=1)
    for replica in toy.started:
        arrived = replica.engine.weights[None]
        assert all(
            tensor.dtype == arrived[name].dtype and tensor.equal(arrived[name]) for name, tensor in source.items()
        )


def test_replicas_with_different_weights_are_refused(make):
    toy = make(2)
    toy.pool.load_weights(weights(1.0), version=1)
    toy.started[1].engine.weights[None]["w"] += 1.0
    with pytest.raises(EngineError, match="Replicas of the engine have different weights"):
        toy.pool.weights_digest()
    with pytest.raises(EngineError, match="Replicas of the engine have different weights"):
        asyncio.run(toy.pool.score([1, 5], 1, 1.0, BASE_MODEL))


def test_pool_without_replicas_ends_the_run(make):
    toy = make(1, slow, failing=range(1, 9))
    toy.kill(0)
    with pytest.raises(RunError, match=f"No replica .* {RESTARTS} restarts of each: It does not start"):
        tokens(toy.pool, range(2))
    assert len(toy.started) == 1 + RESTARTS


def test_pool_continues_with_the_replicas_that_are_left(make):
    toy = make(2, failing=range(2, 9))
    toy.kill(0)
    assert tokens(toy.pool, range(4)) == tokens(make(1).pool, range(4))
    toy.pool.load_weights(weights(1.0), version=1)  # waits for the attempts
    assert len(toy.started) == 2 + RESTARTS


def test_errors_of_the_engine_reach_the_caller(make):
    class Refusing(SeededEngine):
        async def generate(self, request):
            raise EngineError("Too long.")

    toy = make(2, Refusing)
    with pytest.raises(EngineError, match="Too long"):
        tokens(toy.pool, [0])
    assert len(toy.started) == 2
