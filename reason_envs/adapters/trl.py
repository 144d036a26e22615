"""Adapter to TRL's ``GRPOTrainer``: a data set and a reward function, or rollouts with several turns.

Every message of a prompt contains the seed of its episode (``{"role": ..., "content": ..., "seed": ...}``), because TRL
passes only prompts to a rollout function. Chat templates ignore the seed.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from datasets import Dataset

from reason_envs.adapters.controller import single_agent
from reason_envs.adapters.loop import run
from reason_envs.adapters.trl_dialogue import Speaker
from reason_envs.core import Environment, Message, StepResult, checked_reset, derive_seed
from reason_envs.errors import OptionError, ReasonEnvsError
from reason_envs.vector import VectorEpisodes

Prompt = list[dict[str, Any]]
"""Chat messages, each with the ``seed`` of the episode that starts with them."""


def prompt_dataset(environment: Environment, count: int, seed: int = 0) -> Dataset:
    """Return the first messages of ``count`` episodes as a data set for ``GRPOTrainer``.

    Args:
        environment: the environment. If it has several agents, one policy acts for all of them.
        count: number of prompts. ``reset(seed=...)`` chooses their problems.
        seed: seed of the data set. For an ``eval_dataset`` use another seed, or an environment with ``split="test"``.
    """
    seeds = [derive_seed(seed, "prompt", i) for i in range(count)]
    return Dataset.from_list([{"prompt": prompt} for prompt in run(first_prompts(environment, seeds))])


def reward_function(environment: Environment) -> Callable[..., list[float]]:
    """Return a reward function for ``reward_funcs``: each completion is one step of the environment.

    All completions of a call are graded together, so that a solver inside the environment answers them in one batch.
    The share of correct answers is logged as ``accuracy``.

    Args:
        environment: an environment whose episodes end after one response. Forks of it are played.
    """
    decisions = environment.decisions_per_episode
    if len(environment.agents) > 1 or decisions not in (None, 1):
        raise _several_turns(environment)

    def reward(
        prompts: Sequence[Prompt], completions: Sequence[Sequence[Message]], log_metric: Any = None, **_: Any
    ) -> list[float]:
        (agent,) = environment.agents
        texts = [completion[-1]["content"] for completion in completions]
        with closing(_begin(environment, prompts)) as episodes:
            results = run(episodes.step({i: {agent: environment.parse_action(text)} for i, text in enumerate(texts)}))
            if episodes.live:
                raise _several_turns(environment)
        _log_accuracy([result.info.get("correct") for result in results.values()], log_metric)
        return [float(results[i].rewards.get(agent, 0.0)) for i in range(len(texts))]

    reward.__name__ = type(environment).__name__
    return reward


def rollout_function(
    environment: Environment, max_turn_tokens: int | None = None
) -> Callable[[list[Prompt], Any], dict[str, Any]]:
    """Return a ``rollout_func``: each episode, with any number of turns, is one growing dialogue.

    The trainer's own generation (transformers or vLLM, with its sampling options) writes the responses of all episodes
    together. ``env_mask`` is 1 for tokens of the policy and 0 for tokens of the environment. `episode_reward` returns
    the rewards: ``GRPOTrainer(reward_funcs=episode_reward, rollout_func=rollout_function(environment), ...)``.

    A dialogue ends where it would exceed ``max_completion_length`` or the model's context. Empty responses finish its
    episode, so that a policy cannot gain by exceeding the limit.

    Args:
        environment: the environment; forks of it are played. If it has several agents, one policy acts for all.
        max_turn_tokens: maximum number of tokens per response; ``None``: as many as the dialogue has left.
    """
    if max_turn_tokens is not None and max_turn_tokens < 1:
        raise OptionError("max_turn_tokens", max_turn_tokens, "must be at least 1, or None for no limit per response.")
    player = single_agent(environment)
    (agent,) = player.agents

    def rollout(prompts: list[Prompt], trainer: Any) -> dict[str, Any]:
        speaker = Speaker(trainer, max_turn_tokens)
        plain = [[{"role": m["role"], "content": m["content"]} for m in prompt] for prompt in prompts]
        dialogues = [speaker.begin(messages) for messages in plain]
        rewards = [0.0] * len(prompts)
        with closing(_begin(player, prompts)) as episodes:
            while live := episodes.live:
                texts = speaker.answer([dialogues[i] for i in live])
                actions = {i: {agent: player.parse_action(text)} for i, text in zip(live, texts, strict=True)}
                for i, result in run(episodes.step(actions)).items():
                    rewards[i] += float(result.rewards.get(agent, 0.0))
                    if not result.done:
                        seen = episodes.environments[i].render_messages(result.observations[agent])
                        speaker.reply(dialogues[i], seen)
            last = [episodes.result(i) for i in range(len(prompts))]
        correct = [result.info.get("correct") if result else None for result in last]
        log_probs = [dialogue.log_probs for dialogue in dialogues]
        return {
            "prompt_ids": [dialogue.prompt_ids for dialogue in dialogues],
            "completion_ids": [dialogue.completion_ids for dialogue in dialogues],
            "logprobs": None if None in log_probs else log_probs,
            "env_mask": [dialogue.mask for dialogue in dialogues],
            "episode_reward": rewards,
            "episode_correct": correct,
        }

    return rollout


def episode_reward(
    episode_reward: list[float], episode_correct: list[Any], log_metric: Any = None, **_: Any
) -> list[float]:
    """Return the total reward of each episode of `rollout_function`; a reward function for ``reward_funcs``.

    The share of correctly solved episodes is logged as ``accuracy``.
    """
    _log_accuracy(episode_correct, log_metric)
    return episode_reward


async def first_prompts(environment: Environment, seeds: Sequence[int]) -> list[Prompt]:
    """Return the first messages of the episodes with these seeds."""
    with closing(single_agent(environment).fork()) as player:
        return [_prompt(player, await checked_reset(player, seed=seed), seed) for seed in seeds]


def _prompt(player: Environment, result: StepResult, seed: int) -> Prompt:
    (observation,) = result.observations.values()
    return [{**message, "seed": seed} for message in player.render_messages(observation)]


def _begin(player: Environment, prompts: Sequence[Prompt]) -> VectorEpisodes:
    """Start the episodes of prompts and check that they begin with these prompts."""
    for prompt in prompts:
        if not isinstance(prompt, list) or not prompt or prompt[0].get("seed") is None:
            raise ReasonEnvsError(
                f"The prompt {prompt!r} does not contain the seed of an episode: train on "
                "reason_envs.adapters.trl.prompt_dataset(environment, count)."
            )
    seeds = [prompt[0]["seed"] for prompt in prompts]
    episodes = VectorEpisodes([player.fork() for _ in prompts])
    results = run(episodes.reset(seeds=dict(enumerate(seeds))))
    for i, prompt in enumerate(prompts):
        if _prompt(episodes.environments[i], results[i], seeds[i]) != [dict(message) for message in prompt]:
            raise ReasonEnvsError(
                f"The prompt {prompt[-1]['content']!r} is not what the environment shows for its seed {seeds[i]}: "
                "build the data set and the trainer from one environment, with the same options."
            )
    return episodes


def _several_turns(environment: Environment) -> ReasonEnvsError:
    return ReasonEnvsError(
        f"Episodes of {type(environment).__name__} can have several responses, which a reward function cannot play: "
        "use rollout_func=rollout_function(environment) and reward_funcs=episode_reward."
    )


def _log_accuracy(correct: Sequence[Any], log_metric: Any) -> None:
    known = [float(value) for value in correct if value is not None]
    if known and log_metric is not None:
        log_metric("accuracy", sum(known) / len(known))
