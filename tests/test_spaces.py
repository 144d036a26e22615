"""UnicodeText contains text in any script, and Gymnasium's tools accept it."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from hypothesis import given
from hypothesis import strategies as st

from reason_envs.errors import ReasonEnvsError
from reason_envs.spaces import UnicodeText


@given(st.text(max_size=50))
def test_unicode_text_contains_every_string_up_to_its_length(text):
    assert text in UnicodeText(50)
    assert (text in UnicodeText(10)) == (len(text) <= 10)
    assert (text in UnicodeText(50, min_length=1)) == bool(text)


@pytest.mark.parametrize("value", [b"bytes", 3, None, ["a"], "\ud800", "a\udfff"])
def test_unicode_text_contains_only_strings_of_valid_unicode(value):
    assert value not in UnicodeText(50)


def test_unicode_text_samples_are_seeded_contained_and_varied():
    first, second = UnicodeText(40, seed=5), UnicodeText(40, seed=5)
    samples = [first.sample() for _ in range(30)]
    assert samples == [second.sample() for _ in range(30)]
    assert all(s in first for s in samples)
    assert len(set(samples)) > 25


def test_unicode_text_supports_equality_repr_and_copies():
    space = UnicodeText(40, min_length=2)
    assert space == UnicodeText(40, min_length=2)
    assert space != UnicodeText(41, min_length=2)
    assert space != gym.spaces.Text(40, min_length=2)
    assert repr(space) == "UnicodeText(40, min_length=2)"
    assert copy.deepcopy(space) == pickle.loads(pickle.dumps(space)) == space


def test_gymnasium_batches_unicode_text():
    space = UnicodeText(10)
    batched = batch_space(space, 2)
    texts = ("é\n", "b")
    assert texts in batched
    assert tuple(iterate(batched, texts)) == texts
    assert concatenate(space, texts, create_empty_array(space, 2)) == texts


class _TextEnv(gym.Env):
    observation_space = action_space = UnicodeText(10)


def test_unicode_text_rejects_shared_memory_and_names_the_fix():
    with pytest.raises(ReasonEnvsError, match=r"make_vec.*shared_memory=False"):
        AsyncVectorEnv([_TextEnv])
