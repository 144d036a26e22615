"""Search trees for language policies: messages, their length, and parsed actions."""

from __future__ import annotations

import pytest
from tree_toys import BACKTRACK, BRANCH, EXPAND, TERMINATE, make_tree, play

from reason_envs.envs.reason_tree.config import ReasonTreeConfig
from reason_envs.envs.reason_tree.paper import ReasonTreePaperConfig
from reason_envs.envs.reason_tree.render_text import MAX_STEP_CHARS, messages, outline
from reason_envs.envs.reason_tree.tree import new_tree
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.loading import load_model, load_tokenizer, resolve_device, resolve_dtype

NAMES = ("reason_tree", "reason_tree_paper")


def full_tree(config, step, branching):
    """The largest tree of a configuration: a chain to the deepest node, and all other nodes beside it."""
    tree = new_tree("What is 12 + 34 - 56 + 78?", [], 0, config.aggregation)
    fields = {"token_ids": [], "log_prob": 0.0, "tokens": 1, "score": 0.5}
    parent = 0
    for _ in range(config.max_depth):
        parent = tree.add(parent, step, **fields)
    deepest = parent
    while len(tree.nodes) < config.max_nodes:
        open_nodes = [i for i, node in enumerate(tree.nodes) if len(node.children) < branching and i != deepest]
        tree.add(open_nodes[0], step, **fields)
    return tree, deepest


def test_messages_show_the_tree_and_the_legal_actions():
    env = make_tree(
        script=lambda request, seed: f"step {seed % 97}\n", scores=lambda question, steps: [0.5] * len(steps)
    )
    start = play(env, [])[-1]
    (message,) = env.render_messages(start.observations["searcher"])
    assert message["content"] == f"{env.task.question}\n\nYou stand at the problem. Choose one of: EXPAND \\boxed{{0}}."
    result = play(env, [EXPAND, EXPAND, BRANCH, BACKTRACK, EXPAND])[-1]
    (message,) = env.render_messages(result.observations["searcher"])
    nodes = env.state.tree.nodes
    assert message["content"].splitlines() == [
        env.task.question,
        f"1* 50% {nodes[1].text}",
        f"2- 50% {nodes[2].text}",
        f"2- 50% {nodes[3].text}",
        f"2> 50% {nodes[4].text}",
        "",
        "You stand at >. Choose one of: EXPAND \\boxed{0}, BRANCH \\boxed{1}, BACKTRACK \\boxed{2}.",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_messages_name_legal_actions_that_can_be_parsed(name):
    env = make_tree(name, script="on\n")
    observation = play(env, [EXPAND, EXPAND, EXPAND, BRANCH])[-1].observations["searcher"]
    told = env.render_messages(observation)[0]["content"].rpartition(": ")[2].rstrip(".").split(", ")
    legal = [i for i, allowed in enumerate(env.action_masks()) if allowed]
    assert [env.parse_action(choice.split(" ")[0]) for choice in told] == legal
    assert [env.parse_action(choice.split(" ")[1]) for choice in told] == legal


@pytest.mark.parametrize(
    ("said", "action"),
    [
        ("EXPAND", EXPAND),
        ("I would not expand, but Backtrack.", BACKTRACK),
        ("terminate", TERMINATE),
        ("0 + 3 = 3\n\\boxed{3}", TERMINATE),
        ("\\boxed{ 1 }", BRANCH),
        ("\\boxed{EXPAND}", EXPAND),
        ("EXPAND, no: \\boxed{42}", -1),
        ("\\boxed{-1}", -1),
        (f"\\boxed{{{'9' * 5000}}}", -1),
        ("\\boxed{\u0663}", -1),
        ("BAC\u212aTRACK", -1),
        ("branches", -1),
        ("3", -1),
        ("\ud800\x00", -1),
        ("", -1),
    ],
)
def test_parse_action_reads_the_last_action(said, action):
    assert make_tree().parse_action(said) == action


@pytest.mark.parametrize("config", [ReasonTreeConfig(), ReasonTreePaperConfig()], ids=NAMES)
@pytest.mark.parametrize("step", ["12 + 34 = 46", "7" * 64, "is the thing that " * 16])
def test_messages_of_the_largest_tree_fit_into_the_embedded_model(config, step):
    """The rest of the context has room for a response of 128 tokens, the default of the policy."""
    cpu = resolve_device("cpu")
    positions = load_model("embedded", device=cpu, dtype=resolve_dtype("auto", cpu)).config.max_position_embeddings
    tree, deepest = full_tree(config, step, branching=4)
    actions = {i: f"BACKTRACK_{i}" for i in range(2 + config.max_depth if "Paper" in type(config).__name__ else 4)}
    prompt = encode_prompt(load_tokenizer("embedded"), messages(tree, deepest, actions))
    assert len(prompt) + 128 <= positions


def test_messages_of_long_trees_show_the_path_and_all_scores():
    tree, deepest = full_tree(ReasonTreeConfig(), "x" * 64, branching=3)
    lines = outline(tree, deepest).splitlines()
    assert len(lines) == len(tree.nodes)
    shown = [line for line in lines[1:] if "x" in line]
    assert len(shown) == 15
    assert {line.count("x") for line in shown} == {MAX_STEP_CHARS // 15}
    assert all(line.endswith("%") for line in lines[1:] if line not in shown)
