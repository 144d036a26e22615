"""Labelled solutions for a step reward model: sample, grade, and label every step by rollouts (Math-Shepherd).

A hard label says whether any completion from a step reaches the answer, a soft one which share of them does. Both tell
whether the generator can still get there, which is not quite whether the step is right. With hard labels, every step
after a wrong one is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError, unknown_name
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling
from reason_envs.rewards import extract_answer, grade_math_batch
from reason_envs.rewards.math.extract import check_answer_fallbacks
from reason_envs.tasks.base import Task

LABELLINGS = ("hard", "soft", "solution")
CHUNK = 1024
"""Requests that wait together."""
Prefix = tuple[tuple[int, ...], ...]
"""The token ids of the first steps of a solution."""


@dataclass
class SamplingConfig:
    """How solutions are sampled and their steps labelled."""

    solutions: int = 16
    """Solutions sampled for each problem; equal ones are kept once."""
    temperature: float = 1.0
    """Sampling temperature, of the rollouts too."""
    top_p: float = 1.0
    """Nucleus of the generator; 1 keeps all tokens."""
    max_depth: int = 15
    """Most steps of a solution."""
    max_step_tokens: int = 64
    """Most tokens of a step."""
    separator: str = "\n"
    """What ends a step."""
    system_prompt: str | None = None
    """Text of a system message before the problem; ``None`` sends none."""
    fallbacks: tuple[str, ...] = ()
    """Where else than in a box an answer is looked for: ``####``, ``last_number``."""
    labels: str = "hard"
    """``hard`` (a step is right if any completion from it, and from each step before, reaches the answer), ``soft``
    (the share of completions that does) or ``solution`` (the grade of the whole solution on each of its steps: no
    rollouts)."""
    rollouts: int = 8
    """Completions from each step."""
    max_rollout_tokens: int = 256
    """Most tokens of a completion."""

    def __post_init__(self) -> None:
        if self.labels not in LABELLINGS:
            raise unknown_name("labels", self.labels, LABELLINGS)
        for name in ("solutions", "rollouts", "max_depth", "max_rollout_tokens"):
            if getattr(self, name) < 1:
                raise ReasonEnvsError(f"{name}={getattr(self, name)} must be at least 1.")
        self.fallbacks = check_answer_fallbacks(self.fallbacks)


@dataclass(frozen=True)
class LabelledSolution:
    """A solution whose steps are judged."""

    task_id: str
    """The problem's."""
    question: str
    """The problem."""
    steps: tuple[str, ...]
    """The solution's steps."""
    labels: tuple[float, ...]
    """For each step, 1 (right) to 0 (wrong)."""
    correct: bool
    """Whether the solution reaches the answer."""


@dataclass(frozen=True)
class _Solution:
    task: Task
    prompt: list[Any]
    """Messages before the first step, token ids after it."""
    seed: int
    texts: tuple[str, ...] = ()
    tokens: Prefix = ()
    ended: bool = False


async def label_problems(
    engine: Engine, tasks: Sequence[Task], config: SamplingConfig, seed: int
) -> list[LabelledSolution]:
    """Sample solutions of each problem and label their steps; equal solutions of a problem are kept once.

    Args:
        engine: the generator; it must tell token ids, as steps are continued token by token.
        tasks: the problems, each once.
        config: how.
        seed: keys every draw, together with the problem, so that problems do not influence each other.
    """
    solutions = await _sample(engine, tasks, config, seed)
    grades = grade_math_batch([(config.separator.join(s.texts), s.task.answer) for s in solutions], config.fallbacks)
    correct = [grade.correct for grade in grades]
    if config.labels == "solution":
        labels = [(float(right),) * len(s.texts) for s, right in zip(solutions, correct, strict=True)]
    else:
        labels = await _Rollouts(engine, config, seed, solutions, correct).labels()
    return [
        LabelledSolution(s.task.id, s.task.question, s.texts, marks, right)
        for s, marks, right in zip(solutions, labels, correct, strict=True)
    ]


async def _sample(engine: Engine, tasks: Sequence[Task], config: SamplingConfig, seed: int) -> list[_Solution]:
    """Draw solutions step by step, as a tree grows: a step ends at the separator, a solution at its answer."""
    sampling = Sampling(config.max_step_tokens, config.temperature, top_p=config.top_p, stop=(config.separator,))
    rows = [
        _Solution(task, _messages(task, config), derive_seed(seed, "solution", task.id, number))
        for task in tasks
        for number in range(config.solutions)
    ]
    for depth in range(config.max_depth):
        live = [i for i, row in enumerate(rows) if not row.ended]
        requests = [
            GenerationRequest([*rows[i].prompt, *_joined(rows[i].tokens)], derive_seed(rows[i].seed, depth), sampling)
            for i in live
        ]
        drawn = await _generate(engine, requests, f"step {depth + 1} of the solutions")
        for i, generation in zip(live, drawn, strict=True):
            rows[i] = _extended(rows[i], generation, config)
    return list({(row.task.id, row.texts): row for row in rows}.values())


def _extended(row: _Solution, generation: Generation, config: SamplingConfig) -> _Solution:
    if generation.finish_reason == "exhausted" or not (generation.token_ids and generation.prompt_ids):
        raise ReasonEnvsError(
            "Labelling needs a generator that answers every request and tells the token ids that it reads and "
            "writes. Use engine=transformers or engine=vllm (with engine=openai and vllm serve: "
            "engine.extra_body={return_token_ids: true}), or give labelled solutions in labels_from."
        )
    text = generation.text.strip()
    return replace(
        row,
        prompt=generation.prompt_ids if not row.texts else row.prompt,
        texts=(*row.texts, text),
        tokens=(*row.tokens, tuple(generation.token_ids)),
        ended=generation.stop_string is None or extract_answer(text, config.fallbacks) is not None,
    )


@dataclass
class _Rollouts:
    """Completes solutions from each of their steps; steps that several solutions of a problem share count once."""

    engine: Engine
    config: SamplingConfig
    seed: int
    solutions: Sequence[_Solution]
    correct: Sequence[bool]
    reached: dict[tuple[str, Prefix], int] = field(default_factory=dict)
    """How many completions from a step reached the answer."""

    async def labels(self) -> list[tuple[float, ...]]:
        """Return the labels of every solution's steps."""
        hard = self.config.labels == "hard"
        for solution, right in zip(self.solutions, self.correct, strict=True):
            for depth in range(1, len(solution.texts)):
                key = (solution.task.id, solution.tokens[:depth])
                # With hard labels a sampled solution is a completion from each of its steps, too.
                self.reached[key] = self.reached.get(key, 0) + (hard and right)
        for depth in range(1, self.config.max_depth):
            places = {(s.task.id, s.tokens[:depth]): s for s in self.solutions if len(s.texts) > depth}
            for number in range(self.config.rollouts):
                await self._complete([s for key, s in places.items() if not hard or self._is_open(key)], depth, number)
        return [self._labels(s, right) for s, right in zip(self.solutions, self.correct, strict=True)]

    def _is_open(self, key: tuple[str, Prefix]) -> bool:
        """Whether a hard label is not known: the answer was reached from the step before, and not yet from here."""
        task_id, tokens = key
        return not self.reached[key] and (len(tokens) == 1 or self.reached[task_id, tokens[:-1]] > 0)

    async def _complete(self, solutions: Sequence[_Solution], depth: int, number: int) -> None:
        """Draw one completion from a depth of each solution and count those that reach the answer."""
        sampling = Sampling(self.config.max_rollout_tokens, self.config.temperature, top_p=self.config.top_p)
        requests = [
            GenerationRequest([*s.prompt, *_joined(s.tokens[:depth])], self._key(s, depth, number), sampling)
            for s in solutions
        ]
        drawn = await _generate(self.engine, requests, f"rollout {number + 1} of step {depth}")
        pairs = [(g.text, s.task.answer) for s, g in zip(solutions, drawn, strict=True)]
        grades = grade_math_batch(pairs, self.config.fallbacks)
        for solution, grade in zip(solutions, grades, strict=True):
            self.reached[solution.task.id, solution.tokens[:depth]] += grade.correct

    def _key(self, solution: _Solution, depth: int, number: int) -> int:
        return derive_seed(self.seed, "rollout", solution.task.id, *_joined(solution.tokens[:depth]), number)

    def _labels(self, solution: _Solution, right: bool) -> tuple[float, ...]:
        before = [self.reached[solution.task.id, solution.tokens[:i]] for i in range(1, len(solution.texts))]
        if self.config.labels == "hard":
            return (*(float(count > 0) for count in before), float(right))
        return (*(count / self.config.rollouts for count in before), float(right))


def _messages(task: Task, config: SamplingConfig) -> list[dict[str, str]]:
    user = {"role": "user", "content": task.question}
    return [user] if config.system_prompt is None else [{"role": "system", "content": config.system_prompt}, user]


def _joined(tokens: Prefix) -> list[int]:
    return [token for step in tokens for token in step]


async def _generate(engine: Engine, requests: Sequence[GenerationRequest], what: str) -> list[Generation]:
    """Answer requests of one sample each, chunk by chunk behind a progress bar."""
    drawn: list[Generation] = []
    with tqdm(total=len(requests), desc=what, leave=False) as bar:
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            drawn += [generation for (generation,) in await gather(*(engine.generate(r) for r in chunk))]
            bar.update(len(chunk))
    return drawn


def write_labels(path: Path, solutions: Iterable[LabelledSolution]) -> None:
    """Write labelled solutions, one JSON object a line."""
    path.write_text("".join(json.dumps(asdict(solution)) + "\n" for solution in solutions))


def read_labels(path: Path) -> list[LabelledSolution]:
    """Read what ``write_labels`` wrote."""
    if not path.is_file():
        raise ReasonEnvsError(f"There are no labelled solutions at {path}.")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [LabelledSolution(**{**row, "steps": tuple(row["steps"]), "labels": tuple(row["labels"])}) for row in rows]
