"""verifiers plays our environments with a model that an HTTP server on loopback stands for."""

import asyncio
import importlib.util

import pytest
from openai_server import Server, choice, completion, reply

from reason_envs.adapters.controller import single_agent
from reason_envs.core import checked_reset, checked_step
from reason_envs.registration import make_environment

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("verifiers") is None, reason="verifiers is not installed (extra [verifiers])"
)
TEXTS = ("print('U')", r"\boxed{U}", "print('R')", r"\boxed{L}")
"""Responses of the model, by the number of responses before them."""


@pytest.fixture
def model():
    server = Server()

    def answer(body, number):
        before = sum(message["role"] == "assistant" for message in body["messages"])
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        fields = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
        return reply(body=completion(choice(TEXTS[before % len(TEXTS)]), **fields))

    server.script = answer
    yield server
    server.close()


def play(model, monkeypatch, environment, count, player=None, **options):
    """Return verifiers' traces of the episodes, and their seeds."""
    import verifiers.v1 as vf

    monkeypatch.setenv("KEY", "secret")
    taskset = {"id": "verifiers_toys", "environment": environment, "options": options, "count": count}
    player = {"harness": {"id": "verifiers_toys"}, **(player or {})}
    env = vf.load_environment(vf.resolve_env_config({"taskset": taskset, "player": player}))
    client = vf.EvalClientConfig(base_url=model.url, api_key_var="KEY")
    context = vf.ModelContext(model="m", client=client, sampling=vf.SamplingConfig())

    async def episodes():
        async with env.serving():
            tasks = list(env.taskset)
            slots = [slot for task in tasks for slot in env.slots(task)]
            played = await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))
        assert all(episode.ok for episode in played), [episode.errors for episode in played]
        return [episode.traces[0] for episode in played], [task.data.seed for task in tasks]

    return asyncio.run(episodes())


def played_here(environment, seed, texts, **options):
    """Return total reward, grade, and what the model reads first, of an episode played without verifiers."""
    player = single_agent(make_environment(environment, **options))
    (agent,) = player.agents

    async def episode():
        result = await checked_reset(player, seed=seed)
        shown, total, turn = player.render_messages(result.observations[agent]), 0.0, 0
        while not result.done:
            text = texts[turn % len(texts)] if turn < len(texts) else ""
            result = await checked_step(player, {agent: player.parse_action(text)})
            total, turn = total + result.rewards[agent], turn + 1
        return total, result.info["correct"], shown

    return asyncio.run(episode())


@pytest.mark.parametrize(
    ("environment", "options"),
    [("single_turn_math", {"tasks": "chain_sum"}), ("petting_plan_path", {"max_turns": 2})],
)
def test_episodes_earn_what_they_earn_here(model, monkeypatch, environment, options):
    traces, seeds = play(model, monkeypatch, environment, count=3, **options)
    assert len(set(seeds)) == 3
    for trace, seed in zip(traces, seeds, strict=True):
        total, correct, shown = played_here(environment, seed, TEXTS, **options)
        assert trace.rewards["reward"].score == pytest.approx(total)
        assert trace.metrics["correct"] == correct
        assert [message.content for message in trace.task.data.prompt] == [message["content"] for message in shown]
    assert len(model.bodies) == sum(trace.num_turns for trace in traces)


def test_a_dialogue_grows_and_repeats_no_system_message(model, monkeypatch):
    (trace,), _ = play(model, monkeypatch, "petting_math", count=1, max_turns=1)
    first, last = model.bodies[0]["messages"], model.bodies[-1]["messages"]
    assert last[: len(first)] == first
    assert trace.num_turns == len(model.bodies) == 2
    assert [message["role"] for message in last].count("system") <= 1
    assert [message["content"] for message in last if message["role"] == "assistant"] == [TEXTS[0]]


def test_a_dialogue_that_ends_early_is_played_on_with_empty_responses(model, monkeypatch):
    (trace,), (seed,) = play(model, monkeypatch, "petting_plan_path", 1, {"max_turns": 1}, max_turns=2)
    assert trace.num_turns == 1
    assert trace.rewards["reward"].score == pytest.approx(
        played_here("petting_plan_path", seed, TEXTS[:1], max_turns=2)[0]
    )
