"""Small run folders for the tests of reports, made by scripted policies in real environments."""

from __future__ import annotations

import asyncio

import numpy as np
import petting_toys
import tree_toys
import workflow_toys
from scripted_engine import ScriptedEngine

from agents.evaluation.evaluate_policy import evaluate_policy
from agents.tracking.episode_records import evaluation_record, write_evaluation
from agents.tracking.metrics_file import MetricsFile
from agents.trajectory import Choice
from reason_envs import make_environment
from reason_envs.core import derive_seed
from reason_envs.llm.engine import Sampling

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>{{data}} <b>"
"""Text that a page must show unchanged."""


class Read(list):
    """Messages, with the scripted response to them."""

    answer = ""


class ScriptedPolicy:
    """Policy that responds ``respond(environment)``, as a language policy or (``reads=False``) as another one."""

    def __init__(self, respond, *, reads=True):
        self.respond = respond
        self.reads = reads

    def observe(self, environment, observation):
        read = Read(environment.render_messages(observation))
        read.answer = self.respond(environment)
        return read if self.reads else (read.answer,)

    async def act(self, observations, seeds, sampling=None, *, agents=()):
        texts = [read.answer if self.reads else read[0] for read in observations]
        return [Choice([1] * len(text), None, sampling, "stop", 0, [1] * self.reads, text) for text in texts]

    def fits(self, observation):
        return True

    def action(self, environment, choice):
        return environment.parse_action(choice.text)


def evaluation(environment, policy, tasks, step, samples=1):
    """Evaluate a policy; return the metrics and the record of the evaluation."""
    played = evaluate_policy(environment, policy, tasks, samples=samples, seed=0, sampling=Sampling(8, 1.0))
    result, trajectories = asyncio.run(played)
    return result.metrics(), evaluation_record(step, trajectories, tasks, samples, max_episodes=len(tasks))


def write_run(folder, environment, before, after, tasks=None, steps=30):
    """Write a run of ``steps`` whose policy is ``before`` at first and ``after`` in the end."""
    tasks = tasks or [environment.tasks[i] for i in range(6)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("env: {name: toy}\nalgo: {name: scripted}\nseed: 0\n")
    metrics = MetricsFile(folder / "metrics.jsonl")
    for step, policy in ((0, before), (steps, after)):
        for done in range(1, step + 1):
            row = {"reward": done / steps, "accuracy": done / steps, "loss": 0.1 / done, "time/step": 0.5}
            metrics.append(done, {**row, "tokens": 100.0 * done, "grad_norm": 1.0 / done})
        evaluated, record = evaluation(environment, policy, tasks, step)
        metrics.append(step, evaluated)
        write_evaluation(folder, record)
    return folder


def legal_names(environment):
    return [environment.action_names[number] for number in np.flatnonzero(environment.action_masks())]


def walk(environment):
    """Return the name of a legal action, which depends only on the tree."""
    state = environment.state
    names = legal_names(environment)
    return names[derive_seed(state.seed, state.steps) % len(names)]


def first_legal(environment):
    """Return EXPAND if it is legal, else the first legal action."""
    return legal_names(environment)[0]


def tree_run(folder):
    environment = tree_toys.make_tree(max_nodes=30, max_depth=5)
    return write_run(folder, environment, ScriptedPolicy(walk, reads=False), ScriptedPolicy(first_legal, reads=False))


def guess(environment):
    """Return a random response, which depends only on the seed and the number of the decision."""
    state = environment.state
    return petting_toys.random_policy(derive_seed(state.seed, "guess", state.decisions))(environment)


def petting_run(folder, name="petting_sokoban"):
    """Write a run of a team that guesses at first and solves in the end."""
    environment = make_environment(name)
    guessing = ScriptedPolicy(guess)
    return write_run(folder, environment, guessing, ScriptedPolicy(petting_toys.solver))


def math_run(folder):
    """Write a run whose first responses contain markup."""
    environment = make_environment("single_turn_math")
    right = ScriptedPolicy(lambda env: rf"<b>so</b> \boxed{{{env.task.answer}}} </script>")
    return write_run(folder, environment, ScriptedPolicy(lambda env: HOSTILE), right)


def planner_run(folder):
    environment = make_environment("planner_solver", solver=ScriptedEngine(r"It is \boxed{7}."))
    return write_run(folder, environment, ScriptedPolicy(lambda env: "?"), ScriptedPolicy(lambda env: "Add them up."))


def workflow_run(folder):
    environment = workflow_toys.make_env()
    twice = workflow_toys.ASK + 'b = await self.revise(problem=problem, solution=a["response"], feedback="Check.")\n'
    right = workflow_toys.program(twice + workflow_toys.RETURN, "custom=Custom", "revise=Revise")
    before, after = (ScriptedPolicy(lambda env, text=text: text) for text in (workflow_toys.SIMPLE[:60], right))
    return write_run(folder, environment, before, after, list(workflow_toys.TASKS))


RUNS = {
    "tree": tree_run,
    "sokoban": petting_run,
    "sudoku": lambda folder: petting_run(folder, "petting_sudoku"),
    "plan_path": lambda folder: petting_run(folder, "petting_plan_path"),
    "math": math_run,
    "planner": planner_run,
    "workflow": workflow_run,
}
"""Functions that write a run, by kind of episode."""
