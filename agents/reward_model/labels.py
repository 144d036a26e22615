"""Labelled solutions for a step reward model: sample and grade solutions, and label each step by rollouts.

A hard label says whether any completion from a step reaches the answer; a soft label is the share of completions that
do (Math-Shepherd, arXiv 2312.08935). Both measure whether the generator can still reach the answer, which differs a
little from whether the step is right. With hard labels, every step after a wrong step is wrong.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.prompt_templates import chat
from reason_envs.envs.reason_tree.config import StepConfig
from reason_envs.envs.reason_tree.steps import StepRule, draw_step
from reason_envs.errors import EngineError, RunError
from reason_envs.llm.engine import Engine, Generation, GenerationRequest, Sampling
from reason_envs.rewards import extract_answer, grade_math_batch
from reason_envs.tasks.base import Task
from reason_envs.tasks.text import without_thoughts
from reason_envs.validation import limited

_log = logging.getLogger(__name__)

MINIMUM_SHARE = 0.2
"""Minimum share of the steps that should have either label."""
CHUNK = 1024
"""Number of requests that are sent to the generator together."""
Prefix = tuple[tuple[int, ...], ...]
"""Token ids of the first steps of a solution."""


@dataclass
class SamplingConfig(StepConfig):
    """Options of the sampling of solutions and the labelling of their steps."""

    solutions: int = limited(16, at_least=1)
    """Number of solutions to sample per problem. Equal solutions are kept once."""
    system_prompt: str | None = None
    """Text of a system message before the problem; null: no system message."""
    labels: str = limited("hard", one_of=("hard", "soft", "solution"))
    """Way to label steps: ``hard``, ``soft`` or ``solution``. ``hard``: a step is right if any completion from it, and
    from each step before it, reaches the answer. ``soft``: the share of completions that reach it. ``solution``: every
    step gets the grade of the whole solution, without rollouts."""
    rollouts: int = limited(8, at_least=1)
    """Number of completions from each step."""
    max_rollout_tokens: int = limited(256, at_least=1)
    """Maximum number of tokens per completion."""


@dataclass(frozen=True)
class LabelledSolution:
    """A solution with a label for each step."""

    task_id: str
    """Id of the problem."""
    question: str
    """Text of the problem."""
    steps: tuple[str, ...]
    """Texts of the solution's steps, in order."""
    labels: tuple[float, ...]
    """Label of each step, between 0 (wrong) and 1 (right)."""
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
    caches: tuple[Any, ...] = ()
    """The generator's cached state after each step, from which later requests continue."""
    ended: bool = False
    finished: bool = False


async def label_problems(
    engine: Engine, tasks: Sequence[Task], config: SamplingConfig, seed: int, *, warns: bool = True
) -> list[LabelledSolution]:
    """Sample solutions of each problem and label their steps. Equal solutions of a problem are kept once.

    A solution that is cut at ``max_depth`` or ``max_step_tokens`` before its answer is left out. If most solutions
    are cut, or few steps have one of the labels, ``warns`` logs a warning.

    The problems must differ. All draws depend on the seed and the problem, so problems do not influence each other.

    Raises:
        EngineError: the engine does not return token ids, or did not answer.
    """
    rule = StepRule.of(config.separator, engine.model_name)
    sampled = await _sample(engine, tasks, config, seed)
    solutions = [solution for solution in sampled if solution.finished]
    cut, level = len(sampled) - len(solutions), logging.WARNING if warns else logging.INFO
    message = "%d of %d solutions were cut and are left out: increase max_step_tokens or max_depth."
    _log.log(level if cut > len(solutions) else logging.INFO, message, cut, len(sampled))
    grades = grade_math_batch([(rule.separator.join(s.texts), s.task.answer) for s in solutions], config.fallbacks)
    correct = [grade.correct for grade in grades]
    if config.labels == "solution":
        labels = [(float(right),) * len(s.texts) for s, right in zip(solutions, correct, strict=True)]
    else:
        labels = await _Rollouts(engine, config, seed, solutions, correct).labels()
    marks = [mark for row in labels for mark in row]
    right = sum(marks) / max(1, len(marks))
    if warns and marks and not MINIMUM_SHARE <= right <= 1 - MINIMUM_SHARE:
        _log.warning("%.0f %% of the steps are labelled right: choose easier or harder problems.", 100 * right)
    return [
        LabelledSolution(s.task.id, s.task.question, s.texts, marks, right)
        for s, marks, right in zip(solutions, labels, correct, strict=True)
    ]


async def _sample(engine: Engine, tasks: Sequence[Task], config: SamplingConfig, seed: int) -> list[_Solution]:
    """Sample solutions step by step, like a tree. A step ends at the separator, a solution at its answer."""
    rule = StepRule.of(config.separator, engine.model_name)
    sampling = Sampling(config.max_step_tokens, config.temperature, top_p=config.top_p, stop=(rule.separator,))
    rows = [
        _Solution(task, chat(task.question, config.system_prompt), derive_seed(seed, "solution", task.id, number))
        for task in tasks
        for number in range(config.solutions)
    ]
    for depth in range(config.max_depth):
        live = [i for i, row in enumerate(rows) if not row.ended]
        seeds = [derive_seed(rows[i].seed, depth) for i in live]
        requests = [_request(rows[i], depth, s, sampling, keep=True) for i, s in zip(live, seeds, strict=True)]
        drawn = await _generate(engine, requests, f"step {depth + 1} of the solutions", rule)
        for i, generation in zip(live, drawn, strict=True):
            rows[i] = _extended(rows[i], generation, config)
    return list({(row.task.id, row.texts): row for row in rows}.values())


def _extended(row: _Solution, generation: Generation, config: SamplingConfig) -> _Solution:
    if generation.finish_reason == "exhausted" or not (generation.token_ids and generation.prompt_ids):
        raise EngineError(
            "Labelling needs a generator that answers every request and returns the token ids of prompt and response. "
            "Use engine=transformers or engine=vllm (with engine=openai and vllm serve: "
            "engine.extra_body={return_token_ids: true}), or give labelled solutions with labels_from."
        )
    text, is_last = without_thoughts(generation.text).strip(), generation.stop_string is None
    has_answer = extract_answer(text, config.fallbacks) is not None
    return replace(
        row,
        prompt=generation.prompt_ids if not row.texts else row.prompt,
        texts=(*row.texts, text),
        tokens=(*row.tokens, tuple(generation.token_ids)),
        caches=(*row.caches, generation.prefix_cache),
        ended=is_last or has_answer,
        finished=has_answer or (is_last and generation.finish_reason != "length"),
    )


@dataclass
class _Rollouts:
    """Completes solutions from each of their steps. Steps that solutions of a problem share are completed once."""

    engine: Engine
    config: SamplingConfig
    seed: int
    solutions: Sequence[_Solution]
    correct: Sequence[bool]
    reached: dict[tuple[str, Prefix], int] = field(default_factory=dict)
    """Number of completions from each step that reached the answer."""

    async def labels(self) -> list[tuple[float, ...]]:
        """Return the labels of every solution's steps."""
        hard = self.config.labels == "hard"
        for solution, right in zip(self.solutions, self.correct, strict=True):
            for depth in range(1, len(solution.texts)):
                key = (solution.task.id, solution.tokens[:depth])
                # With hard labels, a sampled solution also is a completion from each of its steps.
                self.reached[key] = self.reached.get(key, 0) + (hard and right)
        for depth in range(1, self.config.max_depth):
            places = {(s.task.id, s.tokens[:depth]): s for s in self.solutions if len(s.texts) > depth}
            for number in range(self.config.rollouts):
                await self._complete([s for key, s in places.items() if not hard or self._is_open(key)], depth, number)
        return [self._labels(s, right) for s, right in zip(self.solutions, self.correct, strict=True)]

    def _is_open(self, key: tuple[str, Prefix]) -> bool:
        """Return whether a hard label is open: the answer was reached from the previous step, but not yet from here."""
        task_id, tokens = key
        return not self.reached[key] and (len(tokens) == 1 or self.reached[task_id, tokens[:-1]] > 0)

    async def _complete(self, solutions: Sequence[_Solution], depth: int, number: int) -> None:
        """Sample one completion from the step at ``depth`` of each solution, and count those that reach the answer."""
        sampling = Sampling(self.config.max_rollout_tokens, self.config.temperature, top_p=self.config.top_p)
        requests = []
        for s in solutions:
            seed = derive_seed(self.seed, "rollout", s.task.id, *chain(*s.tokens[:depth]), number)
            requests.append(_request(s, depth, seed, sampling))
        drawn = await _generate(self.engine, requests, f"rollout {number + 1} of step {depth}", StepRule("\n"))
        pairs = [(g.text, s.task.answer) for s, g in zip(solutions, drawn, strict=True)]
        grades = grade_math_batch(pairs, self.config.fallbacks)
        for solution, grade in zip(solutions, grades, strict=True):
            self.reached[solution.task.id, solution.tokens[:depth]] += grade.correct

    def _labels(self, solution: _Solution, right: bool) -> tuple[float, ...]:
        before = [self.reached[solution.task.id, solution.tokens[:i]] for i in range(1, len(solution.texts))]
        if self.config.labels == "hard":
            return (*(float(count > 0) for count in before), float(right))
        return (*(count / self.config.rollouts for count in before), float(right))


def _request(row: _Solution, depth: int, seed: int, sampling: Sampling, *, keep: bool = False) -> GenerationRequest:
    """Return the request for a continuation of the first ``depth`` steps of a solution."""
    cache = row.caches[depth - 1] if depth else None
    prompt = [*row.prompt, *chain(*row.tokens[:depth])]
    return GenerationRequest(prompt, seed, sampling, keep_prefix=keep, prefix_cache=cache)


async def _generate(engine: Engine, requests: list[GenerationRequest], what: str, rule: StepRule) -> list[Generation]:
    """Return the generation of each request, in chunks and with a progress bar."""
    drawn: list[Generation] = []
    with tqdm(total=len(requests), desc=what, leave=False) as bar:
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            drawn += await gather(*(draw_step(engine, request, rule) for request in chunk))
            bar.update(len(chunk))
    return drawn


def append_labels(path: Path, solutions: Iterable[LabelledSolution]) -> None:
    """Append labelled solutions to a file, one JSON object per line."""
    with path.open("a") as file:
        file.writelines(json.dumps(asdict(solution)) + "\n" for solution in solutions)


def read_labels(path: Path) -> list[LabelledSolution]:
    """Read labelled solutions from a file that `append_labels` wrote.

    Raises:
        RunError: the file does not exist, or a line is not a labelled solution.
    """
    if not path.is_file():
        raise RunError(f"There is no file of labelled solutions at {path}.")
    solutions = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            solutions.append(LabelledSolution(**{**row, "steps": tuple(row["steps"]), "labels": tuple(row["labels"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"Line {number} of {path} is not a labelled solution: {error}. Delete the line.") from error
    return solutions
