"""Success of a model in every role of the Petting environments, measured on held-out problems."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.embedded_models.petting.demonstrations import environments
from benchmarks.embedded_models.petting.habits import decision_success
from reason_envs.batching import gather
from reason_envs.core import StepResult, derive_seed
from reason_envs.envs.petting.base import Petting
from reason_envs.llm.engine import GenerationRequest, Sampling
from reason_envs.llm.engines.transformers.engine import TransformersEngine

MAX_TOKENS = 96
"""Maximum number of tokens per decision."""


@dataclass(frozen=True)
class Measured:
    """Results of one environment."""

    success: float
    """Share of episodes that succeed."""
    turns: float
    """Mean length of an episode in turns."""
    tokens: float
    """Mean number of tokens per decision."""
    first: dict[str, float]
    """Share of successful first decisions of each role; for a tester, its mean mutation score."""


def measure_all(folder: Path, problems: int, temperature: float, seed: int) -> dict[str, Measured]:
    """Measure a saved model in every environment at its default difficulty."""
    engine = TransformersEngine(model=str(folder), device="cpu")
    return {type(env).__name__: measure(env, engine, problems, temperature, seed) for env in environments("test")}


def measure(env: Petting, engine: TransformersEngine, problems: int, temperature: float, seed: int) -> Measured:
    """Let the model play every role.

    Args:
        env: environment with held-out tasks.
        engine: engine with the model.
        problems: number of tasks, one episode each.
        temperature: sampling temperature; 0 is greedy.
        seed: seed of the samples.
    """
    return asyncio.run(_measure(env, engine, problems, Sampling(MAX_TOKENS, temperature), seed))


async def _measure(env: Petting, engine: TransformersEngine, problems: int, sampling: Sampling, seed: int) -> Measured:
    envs = [env.fork() for _ in range(problems)]
    results = await gather(*(fork.reset(seed=seed, options={"task": env.tasks[i]}) for i, fork in enumerate(envs)))
    first: dict[str, list[float]] = {role: [] for role in env.roles}
    tokens: list[int] = []
    while live := [i for i, result in enumerate(results) if not result.done]:
        answers = engine.generate_batch([_request(envs[i], results[i], sampling, derive_seed(seed, i)) for i in live])
        texts = [generations[0].text for generations in answers]
        tokens += [len(generations[0].token_ids) for generations in answers]
        roles = [envs[i].role for i in live]
        stepped = await gather(*(_step(envs[i], results[i], text) for i, text in zip(live, texts, strict=True)))
        for i, role, result in zip(live, roles, stepped, strict=True):
            results[i] = result
            if envs[i].state.decisions <= len(env.roles):
                first[role].append(decision_success(envs[i], role))
    infos = [result.info for result in results]
    return Measured(
        _mean([info["success"] for info in infos]),
        _mean([info["episode_length"] for info in infos]),
        _mean(tokens),
        {role: _mean(rights) for role, rights in first.items()},
    )


def _request(env: Petting, result: StepResult, sampling: Sampling, seed: int) -> GenerationRequest:
    (observation,) = result.observations.values()
    return GenerationRequest(env.render_messages(observation), derive_seed(seed, env.state.decisions), sampling)


async def _step(env: Petting, result: StepResult, text: str) -> StepResult:
    return await env.step({next(iter(result.observations)): text})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
