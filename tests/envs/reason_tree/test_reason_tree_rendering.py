"""The tree as text, image and page."""

from __future__ import annotations

import subprocess
import sys
import warnings
from html.parser import HTMLParser

import gymnasium as gym
import numpy as np
import pytest
from tree_toys import BACKTRACK, BRANCH, EXPAND, half_point, make_tree, play, scripted

from reason_envs.core import derive_seed
from reason_envs.envs.reason_tree.render_image import HEIGHT, WIDTH, draw_image
from reason_envs.envs.reason_tree.render_text import write_page
from reason_envs.envs.reason_tree.tree import new_tree

NASTY = '<script>alert("1")</script> & $x^2$ 漢字 \udcff \x00'


def grow(nodes, text="step {}", seed=0):
    """A random tree of so many nodes, without a generator."""
    tree = new_tree(f"Question? {NASTY}", [], seed, "product")
    while len(tree.nodes) < nodes:
        n = len(tree.nodes)
        parent = max(derive_seed(seed, n) % n, n - 6)
        score = derive_seed(seed, n, "score") / 2**63
        tree.add(parent, text.format(n), token_ids=[1], log_prob=-1.0, tokens=1, score=score, terminal=n % 5 == 4)
    return tree


def test_text_shows_scores_and_the_current_node():
    env = make_tree(
        script=lambda request, seed: f"step {seed % 3}\n", scores=lambda question, steps: [0.5] * len(steps)
    )
    env.render_mode = "ansi"
    assert env.render() is None
    play(env, [EXPAND, EXPAND, BACKTRACK, EXPAND, BRANCH], task={"question": "Sum?", "answer": "6"})
    lines = env.render().splitlines()
    assert lines[0] == "Sum?"
    assert len(lines) == len(env.state.tree.nodes)
    assert sum(line.endswith(" <") for line in lines) == 1
    assert all("0.50  step" in line for line in lines[1:])


@pytest.mark.parametrize("nodes", [1, 2, 30, 80])
def test_images_have_one_size_and_no_warning(nodes):
    tree = grow(nodes, NASTY + " {} " + "long " * 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = draw_image(tree, nodes - 1)
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert len(np.unique(image)) > 50
    np.testing.assert_array_equal(image, draw_image(tree, nodes - 1))


def test_image_shows_scores_path_and_current_node():
    tree = grow(10)
    images = [draw_image(tree, current) for current in (3, 8)]
    assert not np.array_equal(*images)
    tree.nodes[5].score = 1 - tree.nodes[5].score
    assert not np.array_equal(images[0], draw_image(tree, 3))


def test_image_does_not_use_the_global_state_of_matplotlib():
    code = (
        "import sys, reason_envs.envs.reason_tree.environment as e; assert 'matplotlib' not in sys.modules\n"
        "from reason_envs.envs.reason_tree.tree import new_tree\n"
        "from reason_envs.envs.reason_tree.render_image import draw_image\n"
        "draw_image(new_tree('?', [], 0, 'sum'), 0); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a test asks for."""

    def __init__(self, page):
        super().__init__()
        self.stack, self.tags, self.classes, self.texts = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "li":
            self.classes.append(dict(attrs)["class"])
        if tag != "meta":
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("nodes", [1, 2, 7, 40])
def test_page_is_valid_and_has_every_node(nodes):
    tree, current = grow(nodes, NASTY + " {}"), nodes // 2
    source = write_page(tree, current)
    page = Page(source)
    assert page.stack == []
    assert len(page.classes) == nodes
    assert [i for i, c in zip(tree.preorder(), page.classes, strict=True) if "current" in c] == [current]
    on_path = {i for i, c in zip(tree.preorder(), page.classes, strict=True) if "path" in c}
    assert on_path == {0, *tree.path(current)}
    assert page.tags.count("details") == sum(bool(node.children) for node in tree.nodes)
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert "http" not in source.replace("http-equiv", "")
    assert "<script" not in source
    assert sum('<script>alert("1")</script>' in text for text in page.texts) == nodes + 1
    source.encode()


def test_preorder_has_parents_before_children():
    tree = grow(40)
    order = tree.preorder()
    assert sorted(order) == list(range(40))
    assert all(order.index(tree.nodes[i].parent) < order.index(i) for i in range(1, 40))
    for node in tree.nodes:
        assert sorted(node.children, key=order.index) == node.children


def test_gymnasium_renders_every_mode():
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray), ("html", str)):
        env = gym.make("ReasonTree-v0", **scripted(), reward=half_point, render_mode=mode)
        env.reset(seed=0)
        env.step(EXPAND)
        assert isinstance(env.render(), kind)
    assert env.render().startswith("<!DOCTYPE html>")


def test_visits_are_counted():
    env = make_tree(script="on\n")
    play(env, [EXPAND, EXPAND, BACKTRACK, EXPAND, BACKTRACK, BACKTRACK])
    assert [node.visits for node in env.state.tree.nodes] == [2, 3, 2]
