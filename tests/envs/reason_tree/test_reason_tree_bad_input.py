"""ReasonTree-v0 with invalid input: ``step`` raises no error, and every result is defined."""

from __future__ import annotations

import numpy as np
import pytest
from tree_toys import BACKTRACK, BRANCH, EXPAND, TERMINATE, make_tree, play, rewards, scripted, shape

from reason_envs.errors import ReasonEnvsError
from reason_envs.llm import make_engine
from reason_envs.llm.chat import encode_prompt


def halves(question, steps):
    return [0.5] * len(steps)


@pytest.mark.parametrize(
    "action",
    [
        None,
        "EXPAND",
        "0",
        b"0",
        0.0,
        1.5,
        float("nan"),
        -1,
        4,
        10**30,
        [],
        [0],
        {},
        np.float32(0),
        np.array([0]),
        object,
    ],
)
def test_illegal_actions_change_nothing_and_cost(action):
    env = make_tree(script="on\n", step_penalty=0.25)
    play(env, [EXPAND])
    before = shape(env.state.tree)
    result = play(env, [EXPAND, action])[-1]
    assert result.rewards == {"searcher": pytest.approx(-env.config.illegal_penalty - 0.25)}
    assert result.info["valid_action"] is False
    assert result.info["action_mask"].tolist() == [1, 1, 1, 0]
    assert (shape(env.state.tree), env.state.current) == (before, 1)


@pytest.mark.parametrize("action", [0, np.int64(0), np.int8(0), np.array(0), False])
def test_integer_types_are_valid_actions(action):
    env = make_tree(script="on\n")
    assert play(env, [action])[-1].info["valid_action"] is True
    assert env.state.current == 1


def test_true_is_action_1():
    env = make_tree(script="on\n")
    assert [result.info["valid_action"] for result in play(env, [True, EXPAND, True])] == [True, False, True, True]


@pytest.mark.parametrize("text", ["\n", "  \n"])
def test_empty_steps_are_nodes_whose_tokens_count(text):
    env = make_tree(script=text, scores=halves)
    end = play(env, [EXPAND, EXPAND])[-1]
    node = env.state.tree.nodes[2]
    assert (node.text, node.terminal, node.depth, node.tokens) == ("", False, 2, len(text))
    assert end.rewards == {"searcher": pytest.approx(0.25 - 0.5 - env.config.expand_cost)}


def test_empty_generations_end_the_path_without_an_answer():
    env = make_tree(script="", scores=halves, reward="math")
    _, first, end = play(env, [EXPAND, TERMINATE])
    assert (env.state.tree.nodes[1].terminal, env.state.tree.generated_tokens) == (True, 0)
    assert first.info["action_mask"].tolist() == [0, 1, 1, 1]
    assert (end.info["correct"], end.info["no_answer"]) == (False, True)


def test_steps_may_repeat_their_parent():
    env = make_tree(script="again\n", scores=halves, max_depth=3)
    results = play(env, [EXPAND] * 4)
    assert env.state.tree.steps(env.state.current) == ("again",) * 3
    assert [r.info["valid_action"] for r in results] == [True, True, True, True, False]
    assert sum(rewards(results)[:3]) < 0


@pytest.mark.parametrize("text", ["\\boxed{", "\\boxed{}\n", "\\frac{{{\n", "\x00\udcff\n", "<b>&\n", "\u202e☃\n"])
def test_unreadable_steps_are_not_answers(text):
    env = make_tree(script=text, reward="math")
    results = play(env, [EXPAND, TERMINATE])
    assert env.grower.answer(env.state.tree.nodes[1].text) is None
    ended = not text.endswith("\n")
    assert results[-1].done == ended
    if ended:
        assert results[-1].info["no_answer"] is True


def test_full_context_allows_no_further_step():
    question = "What is 1 + 5?"
    room = {"max_step_tokens": 5, "script": "step\n"}
    env = make_tree(**room, **{"engine": scripted("step\n", context_length=len(question) + 14)["engine"]})
    results = play(env, [EXPAND] * 3, task={"question": question, "answer": "6"})
    # Two steps of five tokens leave four of fourteen tokens, which is too few for a third step.
    assert results[1].info["action_mask"].tolist() == [1, 1, 1, 0]
    assert results[2].info["action_mask"].tolist() == [0, 1, 1, 0]
    assert results[3].info["valid_action"] is False
    assert play(env, [EXPAND, EXPAND, BRANCH, BACKTRACK, EXPAND], task={"question": question, "answer": "6"})


def test_requests_fit_into_the_context_of_a_real_generator(tiny_model):
    engine = make_engine("transformers", model=tiny_model, device="cpu")
    question = "What is 1 + 5? " * 20
    task = {"question": question, "answer": "6"}
    prompt = len(encode_prompt(engine.tokenizer, [{"role": "user", "content": question}]))
    tight = make_tree(max_step_tokens=engine.context_length - prompt, engine=engine)
    start, first, second = play(tight, [EXPAND, EXPAND], task=task)
    assert start.info["action_mask"].tolist() == [1, 0, 0, 0]
    assert first.info["action_mask"].tolist()[:3] == [0, 1, 1]
    assert second.info["valid_action"] is False
    with pytest.raises(ReasonEnvsError, match="exceed the generator's 512 positions"):
        play(make_tree(max_step_tokens=engine.context_length - prompt + 1, engine=engine), [], task=task)


def test_node_without_other_legal_actions_may_submit():
    env = make_tree(script="on\n", max_nodes=2, max_branch=1, reward="math")
    results = play(env, [EXPAND, BACKTRACK, TERMINATE])
    assert [r.info["action_mask"].tolist() for r in results[:3]] == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert results[3].info["no_answer"] is True
    assert results[3].terminated == {"searcher": True}


def test_too_few_scores_of_the_reward_model_are_an_error():
    with pytest.raises(ReasonEnvsError, match=r"one number in \[0, 1\]"):
        play(make_tree(scores=lambda *_: [], script="on\n"), [EXPAND])


@pytest.mark.parametrize(
    ("task", "message"),
    [({"question": "?"}, "answer must"), ({"question": 5, "answer": "1"}, "type str"), ("6", "mapping")],
)
def test_invalid_tasks_are_an_error(task, message):
    with pytest.raises(ReasonEnvsError, match=message):
        play(make_tree(), [], task=task)
