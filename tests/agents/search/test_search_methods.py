"""Search methods on trees whose draws and values are all known."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_toys import BRANCH, DEPTH, known_tree, search, start, texts

from agents.evaluation.intervals import first_tasks
from agents.search import METHODS, make_method
from agents.search.answer import Candidate, selected
from agents.search.beam import BeamSearch, DiverseSearch
from agents.search.mcts import MonteCarloTreeSearch, Statistics
from agents.search.plans import Searching
from agents.search.rebase import Rebase, allocate
from agents.search.results import solve_all
from agents.search.solutions import BestOfN, ChainOfThought, SelfConsistency
from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.grower import draw_steps
from reason_envs.errors import ReasonEnvsError
from reason_envs.registration import make_environment

EIGHT = tuple(range(8))


# --- selection


def candidates(*pairs):
    return [Candidate(f"{i}: {answer}", answer, value) for i, (answer, value) in enumerate(pairs)]


def test_selections_of_known_candidates():
    pool = candidates(("3", 0.2), ("4", 0.9), ("3", 0.3), ("5", 0.1), ("3", 0.1))
    assert selected(pool, "majority") is pool[0]
    assert selected(pool, "vote") is pool[1]  # 0.9 against 0.6
    assert selected(pool, "maximum") is pool[1]


def test_votes_count_equal_answers_together_and_the_first_wins_a_tie():
    pool = candidates(("7", 0.5), ("1,000", 0.5), (r"\dfrac{1}{2}", 0.5), (r"\frac{1}{2}", 0.4), ("7", 0.4))
    assert selected(pool, "majority").response == pool[0].response
    assert selected(pool, "vote") is pool[0]
    assert selected(pool[1:4], "majority") is pool[2]
    assert selected(pool, "maximum") is pool[0]


# --- several draws at once


def draw(tree, grower, parents):
    return asyncio.run(draw_steps(tree, grower, parents))


def test_draw_steps_merges_equal_steps_and_counts_their_tokens():
    grower = known_tree(lambda address, draw: "0.5 same" if draw != 1 else "0.4 other")
    tree = start(grower)
    assert draw(tree, grower, [0, 0, 0]) == [1, 2, 1]
    assert texts(tree) == ["0.5 same", "0.4 other"]
    assert tree.nodes[1].tokens == 2 * len("0.5 same\n")
    assert tree.generated_tokens == grower.engine.generated_tokens == 2 * 9 + 10
    assert (tree.generator_calls, tree.reward_model_calls) == (3, 2)
    assert (grower.engine.batcher.calls, grower.reward_model.batcher.calls) == (1, 1)


def test_draw_steps_respects_the_limits():
    grower = known_tree(lambda address, draw: f"0.5 {draw}", max_nodes=4, max_branch=2)
    tree = start(grower)
    assert draw(tree, grower, [0, 0, 0]) == [1, 2, None]
    assert draw(tree, grower, [1, 1, 2]) == [3, None, None]
    assert len(tree.nodes) == 4


def test_draw_steps_at_once_equals_one_by_one():
    grower = known_tree(lambda address, draw: f"0.5 {draw % 2} {len(address)}")
    together, alone = start(grower), start(grower)
    draw(together, grower, [0, 0, 0])
    for _ in range(3):
        draw(alone, grower, [0])
    assert together == alone


# --- whole solutions

SOLUTIONS = (
    "0.9 a\n0.2 so \\boxed{3}",
    "0.5 b\n0.8 so \\boxed{4}",
    "0.6 c\n\n0.6 so \\boxed{4}",
    "0.9 a\n0.2 so \\boxed{3}",
    "0.1 d",
    "0.1 so \\boxed{3}",
)


def test_self_consistency_submits_the_most_frequent_answer():
    grower = known_tree(None, solutions=SOLUTIONS)
    answer, _ = search(SelfConsistency(n=6), grower)
    assert (answer.answer, answer.candidates) == ("3", 5)
    assert search(SelfConsistency(n=2), grower)[0].answer == "3"  # a tie
    assert search(SelfConsistency(n=3), grower)[0].answer == "4"
    assert answer.generated_tokens == sum(map(len, SOLUTIONS))
    assert (answer.generator_calls, answer.reward_model_calls, answer.reward_model_tokens) == (6, 0, 0)
    assert grower.reward_model.batcher.calls == 0


@pytest.mark.parametrize(
    ("aggregation", "select", "answer", "value"),
    [
        ("product", "maximum", "4", 0.5 * 0.8),
        ("min", "maximum", "4", 0.6),
        ("last", "maximum", "4", 0.8),
        ("product", "vote", "4", 0.4),  # 0.40 + 0.36 against 2 * 0.18 + 0.1
        ("product", "majority", "3", 0.18),
    ],
)
def test_best_of_n_submits_the_selected_solution(aggregation, select, answer, value):
    grower = known_tree(None, solutions=SOLUTIONS)
    found, _ = search(BestOfN(n=6, aggregation=aggregation, select=select), grower)
    assert found.answer == answer
    assert found.value == pytest.approx(value)
    assert found.reward_model_calls == 5  # the repeated solution is scored once
    assert found.reward_model_tokens == grower.reward_model.scored_tokens
    assert grower.engine.batcher.calls == grower.reward_model.batcher.calls == 1


def test_best_of_n_without_an_answer_submits_the_first_solution():
    grower = known_tree(None, solutions=("0.1 d", "0.2 e"))
    answer, _ = search(BestOfN(n=2), grower)
    assert (answer.answer, answer.response, answer.candidates) == (None, "0.1 d", 0)


def test_chain_of_thought_samples_one_greedy_solution():
    grower = known_tree(None, solutions=SOLUTIONS)
    sampled = []
    grower.engine._script = lambda request, seed: sampled.append(request.sampling) or SOLUTIONS[1]
    answer, _ = search(ChainOfThought(), grower)
    assert (answer.answer, answer.generator_calls) == ("4", 1)
    assert [(s.temperature, s.stop, s.max_tokens) for s in sampled] == [(0.0, (), DEPTH * 64)]


# --- beams


def two_families(address, draw):
    """First steps 0 and 1 are the best. Each path ends on the third level."""
    if not address:
        return f"{(0.9, 0.8, 0.5, 0.6)[draw]} first"
    if len(address) == 1:
        return f"{0.9 - 0.1 * draw:.1f} second"
    return f"{0.7 + 0.1 * draw:.1f} so \\boxed{{{''.join(map(str, address))}{draw}}}"


def kept(tree):
    """Return the addresses of the continued nodes."""
    return [tuple(tree.address(i)) for i, node in enumerate(tree.nodes) if node.children and i]


def test_beam_keeps_the_best_steps_of_the_level():
    grower = known_tree(two_families)
    answer, tree = search(BeamSearch(width=4, branch=2), grower)
    # Values 0.9, 0.8 | 0.81, 0.72 (below 0), 0.72, 0.64 (below 1): the first step of a tie is kept.
    assert kept(tree) == [(0,), (1,), (0, 0), (0, 1)]
    assert answer.answer == "001"
    assert answer.value == pytest.approx(0.9 * 0.9 * 0.8)
    assert answer.generated_tokens == grower.engine.generated_tokens == tree.generated_tokens
    assert answer.generator_calls == 12
    assert grower.engine.batcher.calls == grower.reward_model.batcher.calls == 3


def test_dvts_prunes_each_subtree_separately():
    grower = known_tree(two_families)
    answer, tree = search(DiverseSearch(width=4, branch=2), grower)
    # The first two draws are one subtree. The last two are the other, whose best value is 0.6.
    assert kept(tree) == [(0,), (3,), (0, 0), (3, 0)]
    assert answer.answer == "001"
    assert answer.candidates == 4


def test_beam_keeps_finished_steps_in_their_places():
    grower = known_tree(lambda address, draw: f"0.{9 - draw} so \\boxed{{{draw}}}" if draw < 2 else f"0.{draw} on")
    answer, tree = search(BeamSearch(width=4, branch=2), grower)
    assert answer.answer == "0"
    assert grower.engine.batcher.calls == 1
    assert len(tree.nodes) == 5


UNFINISHED = pytest.mark.parametrize(
    "method", [BeamSearch(4, 2), DiverseSearch(4, 2), Rebase(4), MonteCarloTreeSearch(12)]
)


@UNFINISHED
def test_search_completes_its_best_unfinished_path(method):
    grower = known_tree(lambda address, draw: f"0.{9 - draw} on", rest="so \\boxed{7}")
    answer, tree = search(method, grower)
    leaves = [i for i, node in enumerate(tree.nodes) if not node.children]
    best = max(leaves, key=lambda i: tree.nodes[i].value)
    assert (answer.answer, answer.candidates, answer.value) == ("7", 1, tree.nodes[best].value)
    assert answer.response == "\n".join([*tree.steps(best), "so \\boxed{7}"])
    assert answer.generated_tokens == grower.engine.generated_tokens
    assert answer.generated_tokens == sum(node.tokens for node in tree.nodes) + len("so \\boxed{7}")
    assert max(node.depth for node in tree.nodes) <= DEPTH


@UNFINISHED
def test_search_whose_completion_states_nothing_submits_no_answer(method):
    answer, _ = search(method, known_tree(lambda address, draw: f"0.{9 - draw} on"))
    assert (answer.answer, answer.candidates) == (None, 0)
    assert answer.response.endswith("and on")


def test_completion_continues_a_step_that_was_cut_without_a_separator():
    grower = known_tree(lambda address, draw: "0.9 " + "x" * 70, rest="so \\boxed{7}")
    answer, tree = search(MonteCarloTreeSearch(1), grower)
    assert answer.response == tree.nodes[1].text + "so \\boxed{7}"


def test_completion_leaves_a_text_that_the_generator_ended():
    grower = known_tree(lambda address, draw: "0.9 so \\boxed{}", rest="so \\boxed{7}")
    tree = start(grower)
    child = asyncio.run(grower.grow(tree, 0))
    assert tree.nodes[child].terminal
    assert asyncio.run(grower.complete(tree, child)) == tree.nodes[child].text
    assert tree.generator_calls == 1


@pytest.mark.parametrize(("method", "budget"), [("mcts", {"budget": 1}), ("rebase", {"width": 1})])
def test_completion_of_a_real_generator_ends_with_an_answer(method, budget):
    environment = make_environment("reason_tree", engine="transformers", reward_model="random", max_depth=1)
    solved, _ = asyncio.run(
        solve_all(environment, Searching(make_method(method, **budget)), first_tasks(environment.tasks, 32), 0)
    )
    assert all(each.answer.answer is not None for each in solved)
    assert {each.answer.generator_calls for each in solved} == {1, 2}  # a step, and a completion if it states no answer


@pytest.mark.parametrize("method", [BeamSearch(4, 2), DiverseSearch(4, 2), Rebase(4), MonteCarloTreeSearch(64)])
def test_search_respects_the_limits_of_the_tree(method):
    grower = known_tree(lambda address, draw: f"0.9 {draw}", max_nodes=9, max_branch=4)
    _, tree = search(method, grower)
    assert len(tree.nodes) <= 9
    assert max(len(node.children) for node in tree.nodes) <= 4


# --- REBASE


def test_allocate_has_known_shares():
    assert allocate([0.0, 0.0], 3, 0.1) == [2, 1]
    assert allocate([0.5, 0.5, 0.5], 8, 1.0) == [3, 3, 2]
    # exp(0), exp(-1), exp(-2) = 1, .3679, .1353: 8 of them are 5.322, 1.958, 0.720
    assert allocate([0.9, 0.8, 0.7], 8, 0.1) == [5, 2, 1]
    assert allocate([0.2, 0.9], 4, 0.01) == [0, 4]
    assert allocate([0.3], 0, 0.1) == [0]
    assert allocate([], 5, 0.1) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 40), st.floats(0.01, 5))
def test_allocate_spends_the_whole_budget(values, budget, balance):
    shares = allocate(values, budget, balance)
    assert sum(shares) == budget
    ranked = [share for _, share in sorted(zip(values, shares, strict=True))]
    assert all(earlier <= later + 1 for earlier, later in pairwise(ranked))


def test_rebase_draws_one_step_per_missing_candidate():
    def write(address, draw):
        if not address:
            return ("0.9 a", "0.8 b", "0.9 so \\boxed{1}", "0.7 c")[draw]
        return f"0.{9 - draw} so \\boxed{{2}}"

    grower = known_tree(write)
    answer, tree = search(Rebase(width=4), grower)
    # 3 are missing. In proportion to exp(0, -1, -2) they are 1.996, .734, .270: shares 2, 1, 0.
    assert [len(tree.nodes[i].children) for i in (1, 2, 4)] == [2, 1, 0]
    assert answer.candidates == 4
    assert answer.answer == "2"  # .81 + .72 + .72 against .9


# --- MCTS


def test_statistics_choose_the_child_computed_by_hand():
    statistics = Statistics(exploration=2.0 / 4)
    statistics.back_up([0, 1], 0.8)
    statistics.back_up([0, 2], 0.2)
    statistics.back_up([0, 1, 3], 0.4)
    assert statistics.visits == {0: 3, 1: 2, 2: 1, 3: 1}
    assert statistics.totals == pytest.approx({0: 1.4, 1: 1.2, 2: 0.2, 3: 0.4})
    # mean + 2/4 * sqrt(3) / (1 + visits)
    assert statistics.score(0, 1) == pytest.approx(0.6 + 0.5 * 3**0.5 / 3)
    assert statistics.score(0, 2) == pytest.approx(0.2 + 0.5 * 3**0.5 / 2)
    assert statistics.score(0, None) == pytest.approx(0.5 * 3**0.5)
    assert statistics.choose(0, [1, 2], may_draw=True) == 1  # .889, .633, .866
    assert statistics.choose(0, [2], may_draw=True) is None
    assert statistics.choose(0, [], may_draw=False) is None
    statistics.close(1, [3])
    assert statistics.choose(0, [1, 2], may_draw=True) == 1  # 3 is open
    statistics.close(3, [])
    statistics.close(1, [3])
    assert statistics.choose(0, [1, 2], may_draw=True) is None
    assert statistics.choose(0, [1, 2], may_draw=False) == 2


def test_mcts_ends_if_no_step_can_be_drawn():
    grower = known_tree(lambda address, draw: f"0.5 so \\boxed{{{draw}}}" if address else f"0.5 {draw}")
    answer, tree = search(MonteCarloTreeSearch(budget=50, branch=2), grower)
    assert len(tree.nodes) == 1 + 2 + 4
    assert answer.generator_calls == 6


def test_mcts_without_exploration_goes_straight_down():
    grower = known_tree(lambda address, draw: f"0.9 so \\boxed{{{draw}}}" if len(address) == 3 else "0.9 on")
    answer, tree = search(MonteCarloTreeSearch(budget=8, c_puct=0.0), grower)
    # After the first answer it draws alternatives to the last step.
    assert [node.depth for node in tree.nodes] == [0, 1, 2, 3, 4, 4, 4, 4, 4]
    assert (answer.answer, answer.generator_calls) == ("0", 8)


def needle(address, draw):
    """Only the path of third draws is good, and the first draws of each level are bad."""
    if len(address) == 3:
        return f"{0.95 if draw == 2 else 0.1} so \\boxed{{{''.join(map(str, address))}{draw}}}"
    return f"{0.95 if draw == 2 else 0.1} go {draw}"


def test_mcts_finds_the_only_good_leaf():
    grower = known_tree(needle)
    answer, tree = search(MonteCarloTreeSearch(budget=30, branch=BRANCH, c_puct=0.5), grower)
    assert answer.answer == "2222"
    assert answer.value == pytest.approx(0.95**4)
    assert answer.generated_tokens == tree.generated_tokens == grower.engine.generated_tokens
    assert answer.generator_calls <= 30


def test_mcts_gives_an_end_without_an_answer_value_zero():
    """The first path reaches the depth limit with a high value. Its value 0 leads the search to other paths."""

    def write(address, draw):
        if address[:1] == (1,):
            return "0.5 so \\boxed{8}"
        return "0.99 on" if draw == 0 else "0.5 aside"

    grower = known_tree(write, max_depth=2)
    answer, _ = search(MonteCarloTreeSearch(budget=40, c_puct=1.0, branch=2), grower)
    assert answer.answer == "8"


# --- all methods


@pytest.mark.parametrize("name", METHODS)
def test_search_of_eight_problems_makes_one_call_per_round(name):
    """Rounds of sequential methods are batched, tokens are counted exactly, and equal seeds give equal answers."""

    def write(address, draw):
        mixed = derive_seed(*address, draw)
        return f"0.{1 + mixed % 9} so \\boxed{{{mixed % 5}}}" if len(address) > mixed % 3 else f"0.{1 + mixed % 9} on"

    grower = known_tree(write, seeds=EIGHT, solutions=SOLUTIONS)
    options = {"n": 6} if name in ("sc", "best_of_n") else {"width": 4} if name in ("beam", "dvts", "rebase") else {}
    method = make_method(name, **options)
    alone, _ = search(method, grower, seeds=(0,))
    rounds, spent = grower.engine.batcher.calls, grower.engine.generated_tokens
    assert spent == alone.generated_tokens
    found = search(method, grower, seeds=EIGHT)
    assert grower.engine.batcher.calls == 2 * rounds  # equal trees need equal rounds
    assert found[0][0] == alone
    assert sum(answer.generated_tokens for answer, _ in found) == grower.engine.generated_tokens - spent
    assert rounds <= {"mcts": 16, "beam": DEPTH, "dvts": DEPTH, "rebase": DEPTH}.get(name, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mtcs", {}, "Did you mean 'mcts'"),
        ("beam", {"widht": 4}, "Did you mean 'width'"),
        ("beam", {"width": 6, "branch": 4}, "width=6 must be a multiple of branch=4"),
        ("best_of_n", {"select": "best"}, "select='best' is unknown"),
        ("best_of_n", {"aggregation": "mean"}, "aggregation='mean' is unknown"),
        ("sc", {"n": 0}, "n=0"),
        ("mcts", {"budget": 0}, "budget=0"),
        ("rebase", {"balance": 0.0}, "balance=0.0"),
    ],
)
def test_make_method_error_names_the_option(name, options, message):
    with pytest.raises(ReasonEnvsError, match=message):
        make_method(name, **options)


def test_width_above_the_branching_limit_is_an_error():
    with pytest.raises(ReasonEnvsError, match=r"width=8 must be at most env.max_branch=5: set env.max_branch=8"):
        search(BeamSearch(width=8), known_tree(two_families))
