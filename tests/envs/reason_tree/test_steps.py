"""Steps of real models: paragraphs with whole blocks, thoughts, and steps that are cut."""

import asyncio

import pytest
from scripted_engine import ScriptedEngine
from step_reward_toys import ScriptedStepRewardModel

from reason_envs.envs.reason_tree.config import GrowthConfig
from reason_envs.envs.reason_tree.grower import Grower
from reason_envs.envs.reason_tree.steps import StepRule
from reason_envs.errors import ReasonEnvsError
from reason_envs.rewards import extract_answer
from reason_envs.rewards.code.extract import extract_code

DISPLAY = "We add:\n\\[\n1 + 1\n\n= 2\n\\]"
CODE = "```python\na = 1\n\nb = 2\n```"
ENVIRONMENT = "\\begin{align}\na &= 1\n\n\\\\\nb &= 2\n\\end{align}"


def solution(*steps):
    return "\n\n".join(steps)


@pytest.mark.parametrize("block", [DISPLAY, CODE, ENVIRONMENT, "$$\nx\n\n= 2\n$$", "one\ntwo"])
def test_paragraphs_keep_blocks_whole(block):
    rule = StepRule.of("paragraphs", "")
    assert rule.split(solution("First.", block, "\n", "So \\boxed{2}.")) == ("First.", block, "So \\boxed{2}.")


@pytest.mark.parametrize(
    ("model", "steps"),
    [("", ("a", "b", "c")), ("embedded:gsm8k", ("a", "b", "c")), ("someone/model", ("a\nb", "c"))],
)
def test_step_rule_default_depends_on_the_model(model, steps):
    assert StepRule.of(None, model).split("a\nb\n\nc") == steps
    assert StepRule.of("\n", model).split("a\nb\n\nc") == ("a", "b", "c")


@pytest.mark.parametrize("separator", [None, "paragraphs"])
def test_thoughts_are_not_steps(separator):
    rule = StepRule.of(separator, "")
    assert rule.split("<think>\nPerhaps\n\n\\boxed{3}?\n</think>\n\nFirst.\n\nLast.") == ("First.", "Last.")
    assert rule.split("Perhaps.\n</think>\nFirst.") == ("First.",)
    assert rule.split("<think>never\nends") == ()


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<think>\\boxed{3}</think> It is \\boxed{4}", "4"),
        ("<think>\\boxed{3}</think> It is unknown.", None),
        ("<think>so \\boxed{3}", None),
        ("so \\boxed{3}</think> It is \\boxed{4}", "4"),
        ("\\boxed{4} <think>or \\boxed{3}", "4"),
    ],
)
def test_extract_answer_ignores_thoughts(response, answer):
    assert extract_answer(response) == answer


def test_extract_code_ignores_thoughts():
    assert extract_code("<think>\n```python\na\n```\n</think>\n```python\nb\n```") == "b\n"


def tree_of(text, depth=9, **options):
    """Grow one path from a text that the generator writes token by token, and return the tree and the grower."""

    def write(request, seed):
        written = "".join(map(chr, request.prompt)) if isinstance(request.prompt[0], int) else "?"
        return text[len(written) - 1 :]

    reward_model = ScriptedStepRewardModel(lambda question, steps: [0.5] * len(steps))
    grower = Grower(ScriptedEngine(write), reward_model, GrowthConfig(**options))
    tree = grower.start("?", [{"role": "user", "content": "?"}], 0)

    async def grow():
        node = 0
        while len(tree.nodes) <= depth and grower.may_grow(tree, node):
            node = await grower.grow(tree, node)

    asyncio.run(grow())
    return tree, grower


def test_grower_draws_whole_paragraphs():
    text = solution("First.", DISPLAY, "\n", CODE, "So \\boxed{2}.")
    tree, grower = tree_of(text, separator="paragraphs", max_step_tokens=500)
    assert [node.text for node in tree.nodes[1:]] == ["First.", DISPLAY, CODE, "So \\boxed{2}."]
    assert "".join(chr(token) for node in tree.nodes[1:] for token in node.token_ids) == text
    assert tree.nodes[-1].terminal
    assert tree.cut_steps == 0
    assert grower.response(tree, 4) == solution("First.", DISPLAY, CODE, "So \\boxed{2}.")


@pytest.mark.parametrize("limit", [4, 7, 500])
def test_grower_continues_cut_steps(limit):
    text = "one two three\nfour \\boxed{42}."
    tree, grower = tree_of(text, depth=20, max_step_tokens=limit, max_depth=20)
    last = len(tree.nodes) - 1
    assert grower.response(tree, last).startswith("one two three\nfour \\boxed{42}")
    assert tree.nodes[last].terminal
    assert tree.cut_steps == sum(bool(node.unfinished) for node in tree.nodes)
    assert (tree.cut_steps > 0) == (limit < 500)
    assert not any(node.terminal for node in tree.nodes[:-1])


@pytest.mark.parametrize("limit", [9, 500])
def test_grower_keeps_thoughts_out_of_steps(limit):
    text = "<think>\nIs it 3?\n\\boxed{3}\n</think>\nNo.\n\\boxed{4}"
    tree, grower = tree_of(text, max_step_tokens=limit, depth=30, max_depth=30)
    texts = [node.text for node in tree.nodes[1:]]
    assert [step for step in texts if step][-1].endswith("{4}")
    assert not any("think" in step or "3" in step for step in texts)
    assert extract_answer(grower.response(tree, len(tree.nodes) - 1)) == "4"
    if limit == 500:
        assert texts == ["No.", "\\boxed{4}"]


def test_separator_must_not_be_empty():
    with pytest.raises(ReasonEnvsError, match="separator='' must not be empty"):
        GrowthConfig(separator="")
