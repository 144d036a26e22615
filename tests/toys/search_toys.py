"""Known trees for the tests of search. All draws are scripted, and each step begins with its score."""

from __future__ import annotations

import asyncio
from itertools import product

from scripted_engine import ScriptedEngine
from step_reward_toys import ScriptedStepRewardModel

from reason_envs.batching import gather
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.registration import make_environment
from reason_envs.tasks.base import Task
from reason_envs.tasks.task_list import ListTaskSet

SEED = 5
QUESTION = "Which?"
DEPTH = 4
BRANCH = 5


def known_tree(write, *, seeds=(SEED,), solutions=(), rest="and on", **limits):
    """Return a grower whose generator writes ``write(address, draw)`` below the node at an address.

    A step such as ``0.9 so`` has the score 0.9. A step without a box ends with the separator.

    Args:
        write: text of a step by the address of its parent and the number of the draw.
        seeds: seeds of the trees.
        solutions: whole solutions, in order.
        rest: text of the most likely continuation of every path.
        limits: options of `GrowthConfig`.
    """
    texts = {}
    for seed in seeds:
        for depth in range(DEPTH):
            for address in product(range(BRANCH), repeat=depth):
                for draw in range(BRANCH):
                    texts[derive_seed(seed, "step", *address, draw)] = (address, draw)
    whole = {derive_seed(derive_seed(seed, "solutions"), i): text for seed in seeds for i, text in enumerate(solutions)}

    def script(request, sample_seed):
        if request.seed not in texts:
            return whole.get(sample_seed, rest) if request.sampling.temperature == 0 else whole[sample_seed]
        text = write(*texts[request.seed])
        return text if "boxed" in text else text + "\n"

    limits = {"max_depth": DEPTH, "max_branch": BRANCH, **limits}
    reward_model = ScriptedStepRewardModel(lambda question, steps: [float(step.split()[0]) for step in steps])
    return Grower(ScriptedEngine(script), reward_model, GrowthConfig(**limits))


def start(grower, seed=SEED):
    return grower.start(QUESTION, [{"role": "user", "content": QUESTION}], seed)


def search(method, grower, seeds=(SEED,)):
    """Search one tree per seed together; return (answer, tree) of the only one, or a list of all."""
    trees = [start(grower, seed) for seed in seeds]

    async def run():
        return await gather(*(method.search(tree, grower) for tree in trees))

    found = list(zip(asyncio.run(run()), trees, strict=True))
    return found[0] if len(seeds) == 1 else found


def texts(tree):
    """Return the steps of a tree in the order of their creation."""
    return [node.text for node in tree.nodes[1:]]


def needle_environment(**options):
    """Return a search tree of eight problems. Its first steps answer 0 to 3; 2 is correct and has the best score."""
    texts = [f"0.{9 if answer == 2 else 5} so \\boxed{{{answer}}}" for answer in range(4)]
    reward_model = ScriptedStepRewardModel(lambda question, steps: [float(step.split()[0]) for step in steps])
    tasks = ListTaskSet("needles", "test", [Task(f"t{i}", f"{QUESTION} {i}", "2") for i in range(8)])
    engine = ScriptedEngine(texts)
    return make_environment("reason_tree", tasks=tasks, engine=engine, reward_model=reward_model, **options)
