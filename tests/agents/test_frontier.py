"""Search methods and policies on held-out problems: metrics, votes, files and the command."""

import asyncio
import json

import pytest
from search_toys import needle_environment

from agents.frontier import main
from agents.search import WALKS, make_method
from agents.search.plans import Searching, Walking, plans
from agents.search.results import grade, record, solve_all, summarise, table
from agents.trajectory import Choice
from reason_envs.core import derive_seed
from reason_envs.errors import ReasonEnvsError


def solve(environment, solver, count=8, seed=0):
    tasks = list(environment.tasks)[:count]
    return asyncio.run(solve_all(environment, solver, tasks, seed))[0]


# --- solving


@pytest.mark.parametrize("solver", [Searching(make_method("mcts", budget=6)), Walking(WALKS["random"](), samples=2)])
def test_solve_all_batches_problems_and_counts_costs_exactly(solver):
    environment = needle_environment()
    engine, reward_model = environment.grower.engine, environment.grower.reward_model
    solved = solve(environment, solver)
    calls = engine.batcher.calls
    assert calls <= 20  # one call per round for all problems
    assert sum(s.answer.generated_tokens for s in solved) == engine.generated_tokens
    assert sum(s.answer.generator_calls for s in solved) == engine.batcher.requests
    assert sum(s.answer.reward_model_calls for s in solved) == reward_model.batcher.requests
    assert sum(s.answer.reward_model_tokens for s in solved) >= reward_model.scored_tokens
    assert solved == solve(environment, solver)
    assert solved != solve(environment, solver, seed=1)
    assert solved[:2] == solve(environment, solver, count=2)


def test_solve_all_searches_the_tree_of_the_episode():
    environment = needle_environment()
    task = environment.tasks[0]
    seen = []

    class Spy:
        async def search(self, tree, grower):
            seen.append(tree.seed)
            return await make_method("cot").search(tree, grower)

    asyncio.run(solve_all(environment, Searching(Spy()), [task], 3))
    asyncio.run(environment.reset(seed=derive_seed(3, task.id, 0), options={"task": task}))
    assert seen == [environment.state.tree.seed]


class Scripted:
    """Policy that writes one token per action: EXPAND, then TERMINATE."""

    def observe(self, environment, observation):
        return environment.state.tree

    async def act(self, trees, seeds, sampling=None, *, agents):
        (tree,) = trees
        action = 3 if tree.nodes[-1].terminal else 0
        return [Choice([action], None, sampling, "stop", 0, [1, 2], "")]

    def fits(self, observation):
        return True

    def action(self, environment, choice):
        return choice.token_ids[0]


def test_walking_votes_and_counts_the_tokens_of_the_policy():
    environment = needle_environment()
    one, five = (solve(environment, Walking(Scripted(), samples=k)) for k in (1, 5))
    assert all(s.answer.candidates == 5 for s in five)
    assert {s.answer.generator_calls for s in one} == {1}
    # One step and two decisions of one token each.
    assert {s.answer.generated_tokens for s in one} == {len("0.5 so \\boxed{0}") + 2}
    assert {s.answer.generated_tokens for s in five} == {5 * (len("0.5 so \\boxed{0}") + 2)}
    answers = [solve(environment, Walking(Scripted(), samples=1), seed=seed)[0].answer.answer for seed in range(9)]
    assert len(set(answers)) > 1


def test_always_expand_takes_its_first_legal_action():
    walk = WALKS["always_expand"]()
    names = ["EXPAND", "BRANCH", "BACKTRACK", "TERMINATE"]
    legal = [[n if n in chosen else "" for n in names] for chosen in (names, names[1:], names[1:3], names[2:3])]
    assert [names[walk.choose(given, 0)] for given in legal] == ["EXPAND", "TERMINATE", "BRANCH", "BACKTRACK"]


def test_random_takes_every_legal_action():
    walk = WALKS["random"]()
    drawn = [walk.choose(["EXPAND", "", "BACKTRACK", "TERMINATE"], seed) for seed in range(300)]
    assert {0, 2, 3} == set(drawn)
    assert all(80 <= drawn.count(action) <= 120 for action in (0, 2, 3))


def test_always_expand_submits_its_first_answer():
    environment = needle_environment()
    solved = solve(environment, Walking(WALKS["always_expand"]()))
    assert {s.answer.generator_calls for s in solved} == {1}


def test_solvers_read_no_label_before_they_answer():
    environment = needle_environment()
    tasks = list(environment.tasks)[:4]
    blind = [type(task)(task.id, task.question, "no such answer", {}) for task in tasks]
    for solver in (Searching(make_method("beam", width=4)), Walking(WALKS["random"](), samples=3)):
        seeing = asyncio.run(solve_all(environment, solver, tasks, 0))[0]
        answers = asyncio.run(solve_all(environment, solver, blind, 0))[0]
        assert [s.answer for s in seeing] == [s.answer for s in answers]
        assert not any(s.correct for s in answers)


# --- metrics


def test_summarise_computes_the_metrics_of_a_method():
    environment = needle_environment()
    solved = solve(environment, Walking(WALKS["always_expand"]()))
    result = summarise("always_expand", "label", solved, seconds=2.0, seed=0)
    right = [s.answer.answer == "2" for s in solved]
    assert [s.correct for s in solved] == right
    assert result.accuracy == pytest.approx(sum(right) / 8)
    assert result.accuracy_low <= result.accuracy <= result.accuracy_high
    assert (result.problems, result.frac_no_answer, result.generator_calls) == (8, 0.0, 1.0)
    assert result.generated_tokens == pytest.approx(16)
    assert "| label | " in table([result])
    columns = json.loads(json.dumps(record(result, solved)))["problems"]
    assert columns["correct"] == right
    assert columns["generated_tokens"] == [16] * 8
    assert {len(column) for column in columns.values()} == {8}


def test_grade_refuses_a_reward_without_a_verdict():
    environment = needle_environment(reward=lambda response, task: 1.0)
    with pytest.raises(ReasonEnvsError, match="does not report whether the answer to"):
        solve(environment, Searching(make_method("beam", width=4)), count=1)
    assert asyncio.run(grade(environment, [], [], 0)) == []


# --- the command


def test_plans_give_options_to_the_methods_that_have_them():
    made = plans(["sc", "mcts", "random"], {"n": [1, 8], "budget": [4], "c_puct": [0.5, 1.0]})
    assert [plan.label for plan in made] == [
        "sc n=1",
        "sc n=8",
        "mcts budget=4 c_puct=0.5",
        "mcts budget=4 c_puct=1.0",
        "random",
    ]
    assert [plan.family for plan in made] == ["sc", "sc", "mcts c_puct=0.5", "mcts c_puct=1.0", "random"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=mtcs"], "Did you mean 'mcts'"),
        (["method=mcts", "budgt=4"], "Did you mean 'budget'"),
        (["method=mcts", "budget=many"], "could not be converted to Integer"),
        (["method=mcts", "n=4"], "n= is an option of sc, best_of_n"),
        (["method=[beam,sc]", "width=6"], "width=6 must be a multiple"),
        (["method=policy"], "give run="),
        (["method=mcts", "tasks=0"], "tasks=0"),
        (["method=mcts", "run=no/such/run"], "no/such/run"),
    ],
)
def test_frontier_prints_each_error_as_one_message_before_a_model_loads(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err


def test_frontier_evaluates_and_writes(tmp_path, capsys):
    path = tmp_path / "new" / "frontier.json"
    main(
        [
            "env=reason_tree",
            "reward_model=random",
            "env.tasks={name: chain_sum, size: 20}",
            "method=[sc,mcts,always_expand]",
            "n=[1,4]",
            "budget=3",
            "tasks=4",
            f"output_file={path}",
        ]
    )
    shown = capsys.readouterr().out
    assert shown.count("| method |") == 1
    assert all(f"| {label} |" in shown for label in ("sc n=1", "sc n=4", "mcts budget=3", "always_expand"))
    written = json.loads(path.read_text())
    assert [method["result"]["label"] for method in written["methods"]][:2] == ["sc n=1", "sc n=4"]
    assert len(written["methods"][2]["problems"]["correct"]) == 4
