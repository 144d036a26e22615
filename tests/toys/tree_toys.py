"""Search trees for tests: scripted steps that repeat, end early or answer, and scores by hash."""

from __future__ import annotations

import asyncio

from scripted_engine import ScriptedEngine
from step_reward_toys import ScriptedStepRewardModel

import reason_envs
from reason_envs.core import derive_seed
from reason_envs.tasks import Task, TaskSet

EXPAND, BRANCH, BACKTRACK, TERMINATE = range(4)
STEPS = ("1 + 2 = 3", "3 + 3 = 6", "so it is 6", "", r"\boxed{6}", r"\boxed{7}")


class Sums(TaskSet):
    """Problem i asks for i + 5."""

    name, split = "sums", "train"

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return Task(f"sums/{index}", f"What is {index} + 5?", str(index + 5))


def write(request, seed):
    """One of a few steps, so that siblings repeat; one in seven has no separator."""
    step = STEPS[seed % len(STEPS)]
    return step if seed % 7 == 0 else f"{step}\n"


def hashed_scores(question, steps):
    return [derive_seed(question, *steps[: i + 1]) / 2**63 for i in range(len(steps))]


def scripted(script=write, scores=hashed_scores, **attributes):
    """Options of a tree with a scripted engine and reward model."""
    engine = ScriptedEngine(script)
    for name, value in attributes.items():
        setattr(engine, name, value)
    return {"tasks": Sums(), "engine": engine, "reward_model": ScriptedStepRewardModel(scores)}


def half_point(response, task):
    """A final reward that needs no grader."""
    return 0.5, {"correct": "6" in response, "no_answer": "boxed" not in response}


def make_tree(name="reason_tree", script=write, scores=hashed_scores, **options):
    return reason_envs.make_environment(name, **{"reward": half_point, **scripted(script, scores), **options})


def play(env, actions, seed=0, task=None):
    """Reset and take actions until they or the episode end; return every result."""

    async def episode():
        results = [await env.reset(seed=seed, options=None if task is None else {"task": task})]
        for action in actions:
            if results[-1].done:
                break
            results.append(await env.step({"searcher": action}))
        return results

    return asyncio.run(episode())


def rewards(results):
    return [result.rewards["searcher"] for result in results[1:]]


def shape(tree):
    """A tree as values that can be compared."""
    return [(n.parent, n.text, n.tokens, n.score, n.closed, tuple(n.children)) for n in tree.nodes]
