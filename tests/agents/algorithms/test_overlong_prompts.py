"""Prompts that exceed the limit mid-episode: the agents' turns are skipped and counted."""

import asyncio
import logging

import pytest
from language_toys import make_policy, problems
from role_toys import Relay, RelayConfig, Script, spelled_out

from agents.rollout.episodes import grouped, play
from agents.rollout.turn_tree import play_turn_tree
from agents.tracking.episode_metrics import describe
from reason_envs.core import StepResult
from reason_envs.llm.engines.transformers.engine import TransformersEngine
from reason_envs.registration import make_environment

K = 2
TEAM_GAMES = ["petting_math", "petting_code", "petting_sokoban", "petting_sudoku", "petting_plan_path"]


class Cramped(Script):
    """Finds some prompts too long."""

    def __init__(self, line, outgrown):
        super().__init__(line)
        self.outgrown = outgrown

    def fits(self, observation):
        return not self.outgrown(observation)


def grpo(environment, policy):
    return asyncio.run(play(environment, policy, grouped(list(problems(2)), K, 0)))


def at_grpo(environment, policy):
    return asyncio.run(play_turn_tree(environment, policy, grouped(list(problems(2)), K, 0), "first"))


def silent_digger(observation):
    return "You are the digger" in observation


class Lenient(Relay):
    """Pays by the text of a response, and 0.5 for an empty one."""

    async def step(self, actions):
        return await super().step({agent: text or "0 0.5" for agent, text in actions.items()})


@pytest.mark.parametrize(("sampler", "candidates"), [(grpo, 1), (at_grpo, K)])
@pytest.mark.parametrize("together", [False, True])
def test_play_skips_an_agent_whose_prompt_is_too_long(sampler, candidates, together):
    environment = Lenient(RelayConfig(tasks=problems(2), max_turns=3, judge=spelled_out, together=together))
    policy = Cramped(lambda agent, turn, k: "1 0", lambda o: silent_digger(o) and "Turn 0" not in o)
    trajectories = sampler(environment, policy)
    assert describe(trajectories)["overlong_prompts"] == 3 - together
    for trajectory in trajectories:
        spoke = [(d.agent, d.turn) for d in trajectory.path]
        assert spoke == [("scout", 0), *([("digger", 0)] if together else []), ("scout", 1), ("scout", 2)]
        assert len(trajectory.decisions) == candidates * len(spoke)
        assert trajectory.overlong_prompts == 3 - together
        assert all(len(d.choice.token_ids) > 0 for d in trajectory.decisions)
        assert (trajectory.truncated, trajectory.stream_return("scout")) == (True, 3.0)


def test_rewards_of_skipped_turns_go_to_the_latest_decision():
    environment = Lenient(RelayConfig(tasks=problems(2), max_turns=3, judge=spelled_out))
    policy = Cramped(lambda agent, turn, k: "1 0", lambda o: silent_digger(o) and "Turn 1," not in o)
    for trajectory in grpo(environment, policy):
        assert [d.reward for d in trajectory.path if d.agent == "digger"] == [1.0 + 0.5 + 0.5]
    for trajectory in at_grpo(environment, policy):
        assert [d.reward for d in trajectory.path if d.agent == "digger"] == [1.0]


@pytest.mark.parametrize("name", ["reason_tree", *TEAM_GAMES])
@pytest.mark.parametrize("play_all", [play, play_turn_tree])
def test_environments_end_if_every_turn_is_skipped(name, play_all, tiny_model):
    options = {"engine": {"name": "transformers", "model": tiny_model}} if name == "reason_tree" else {}
    environment = make_environment(name, **options)
    policy = make_policy(tiny_model, max_tokens=4, max_prompt_tokens=1)
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    select = ["best"] if play_all is play_turn_tree else []
    plan = grouped([environment.tasks[0]], K, 0)
    for trajectory in asyncio.run(play_all(environment, policy, plan, *select)):
        assert len(trajectory.path) == 1
        assert trajectory.overlong_prompts > 0
        assert trajectory.metrics.get("correct", 0.0) == 0.0
    environment.close()


def test_prompt_limit_is_the_lowest_of_three_and_logged_once(tiny_model, caplog):
    policy = make_policy(tiny_model, max_tokens=12, max_prompt_tokens=600)
    assert policy.prompt_limit == 512 - 12
    policy.engine = TransformersEngine(model=tiny_model, device="cpu")
    policy.engine.context_length = 100
    assert policy.prompt_limit == 100 - 12
    words = [{"role": "user", "content": "1 + 2 + " * 60}]
    length = policy.prompt_length(words)
    policy = make_policy(tiny_model, max_tokens=12, max_prompt_tokens=length)
    assert (policy.prompt_limit, policy.fits(words)) == (length, True)
    policy = make_policy(tiny_model, max_tokens=12, max_prompt_tokens=length - 1)
    with caplog.at_level(logging.WARNING):
        assert not policy.fits(words)
        assert not policy.fits(words)
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"Prompt of {length} tokens exceeds the limit" in message
    assert "policy.max_prompt_tokens" in message


class Growing(Relay):
    """Returns a new observation when it is truncated."""

    async def step(self, actions):
        result = await super().step(actions)
        if not result.done:
            return result
        return StepResult(
            {},
            result.rewards,
            truncated=result.truncated,
            info=result.info,
            final_observations=self._observations(0),
        )


@pytest.mark.parametrize("outgrown", [True, False])
def test_values_bootstrap_at_the_last_prompt_that_fits(outgrown):
    environment = Growing(RelayConfig(tasks=problems(2), max_turns=1))
    policy = Cramped(lambda agent, turn, k: "x", lambda o: outgrown and "Turn 2" in o)
    for trajectory in grpo(environment, policy):
        read = trajectory.final_observations["scout"]
        assert ("Turn 0" if outgrown else "Turn 2") in read
