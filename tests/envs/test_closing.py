"""Environments close the models and sandboxes that they built, and no others."""

from __future__ import annotations

import asyncio

import gymnasium
import pytest

from reason_envs import make_environment
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import GenerationRequest, Sampling, make_engine
from reason_envs.sandbox import make_sandbox
from reason_envs.sandbox.monty import MontySandbox

SPEC = {"name": "transformers", "device": "cpu"}
ENGINES = {
    "reason_tree": ("engine", lambda env: env.grower.engine),
    "planner_solver": ("solver", lambda env: env.solver),
    "workflow": ("engine", lambda env: env.executors["Custom"].engine),
}
SANDBOXES = {
    "workflow": lambda env: env.operators.sandbox,
    "petting_sudoku": lambda env: env.sandbox,
}


def answers(engine):
    request = GenerationRequest([{"role": "user", "content": "What is 4 + 5?"}], seed=0, sampling=Sampling(2))
    return bool(asyncio.run(engine.generate(request)))


@pytest.mark.parametrize("name", ENGINES)
def test_close_frees_engines_built_from_options_except_in_forks(name):
    option, engine_of = ENGINES[name]
    environment = make_environment(name, **{option: SPEC})
    engine = engine_of(environment)
    asyncio.run(environment.reset(seed=0))
    environment.fork().close()
    assert answers(engine)
    environment.close()
    environment.close()
    with pytest.raises(ReasonEnvsError, match="is closed"):
        answers(engine)


@pytest.mark.parametrize("name", ENGINES)
def test_close_keeps_passed_engines_open(name):
    option, engine_of = ENGINES[name]
    engine = make_engine(SPEC)
    environment = make_environment(name, **{option: engine})
    assert engine_of(environment) is engine
    environment.close()
    assert answers(engine)
    engine.close()


@pytest.mark.parametrize("name", SANDBOXES)
def test_close_frees_only_sandboxes_built_from_options(name, monkeypatch):
    closed = []
    monkeypatch.setattr(MontySandbox, "close", lambda sandbox: closed.append(sandbox))
    shared, own = make_environment(name, sandbox=make_sandbox("monty")), make_environment(name)
    shared.close()
    own.fork().close()
    assert closed == []
    own.close()
    assert closed == [SANDBOXES[name](own)]


def test_close_through_gymnasium_frees_the_engine():
    env = gymnasium.make("reason_envs:PlannerSolver-v0", solver=SPEC)
    engine = env.unwrapped.environment.solver
    env.close()
    with pytest.raises(ReasonEnvsError, match="is closed"):
        answers(engine)
