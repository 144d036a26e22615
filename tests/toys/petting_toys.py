"""Policies for the Petting environments: one that solves, and a random one."""

from __future__ import annotations

import asyncio
from random import Random

from benchmarks.embedded_models.petting.sokoban_solver import solve
from reason_envs import make_environment
from reason_envs.tasks.games import plan_path_rules as plan_path
from reason_envs.tasks.games import sokoban_rules as sokoban
from reason_envs.tasks.games import sudoku_rules as sudoku
from reason_envs.tasks.games.moves import MOVES

NAMES = ["petting_plan_path", "petting_sokoban", "petting_sudoku", "petting_math", "petting_code"]


def start(name, seed=3, **options):
    """An environment in its first state, and the result of reset."""
    environment = make_environment(name, **options)
    return environment, asyncio.run(environment.reset(seed=seed))


def go(environment, text, agent=None):
    """Let the acting agent respond."""
    return asyncio.run(environment.step({agent or environment.actor: text}))


def play(environment, policy):
    """Play to the end; return the result of every step."""
    results = []
    while not environment.state.done:
        results.append(go(environment, policy(environment)))
    return results


def plan(environment):
    """The right plan or answer of a grid game."""
    game = environment.state.game
    if isinstance(game, sokoban.SokobanLevel):
        return solve(game) or ""
    if hasattr(game, "grid"):
        return plan_path.shortest_path(game.grid)
    return sudoku.draw(game.puzzle.side, game.solution)


def solver(environment):
    """A response that is right for the acting role."""
    role, game = environment.role, environment.state.game
    if role == "coder":
        return game.tests.reference
    if role == "tester":
        return game.tests.code
    if role == "reasoner":
        return rf"\boxed{{{game.gold}}}"
    right = game.gold if hasattr(game, "gold") else plan(environment)
    return f"print({right!r})" if role == "tool" else right


def random_policy(seed):
    """A policy that draws from responses of the kind that an untrained model writes."""
    rng = Random(seed)

    def respond(environment):
        role, game = environment.role, environment.state.game
        if rng.random() < 0.2:
            return rng.choice(["", "I do not know.", "print(", "x = 1", "def f(x): return x"])
        if role == "coder":
            return f"def f(x):\n    return {rng.choice(['x', 'x + 2', 'max(x, 3)', 'min(x, 5)', 'x * 2', '0'])}"
        if role == "tester":
            return "\n".join(
                f"assert f({rng.randint(-3, 9)}) == {rng.randint(-9, 9)}" for _ in range(rng.randint(1, 4))
            )
        if hasattr(game, "gold"):
            answer = str(rng.choice([int(game.gold), int(game.gold) + 1, rng.randint(-100, 400)]))
            return f"print({answer})" if role == "tool" else rf"\boxed{{{answer}}}"
        if hasattr(game, "puzzle"):
            cells = [clue or rng.randint(0, game.puzzle.side) for clue in game.puzzle.clues]
            answer = sudoku.draw(game.puzzle.side, tuple(cells))
        else:
            answer = "".join(rng.choice(list(MOVES)) for _ in range(rng.randint(1, 10)))
        return f"print({answer!r})" if role == "tool" else answer

    return respond
