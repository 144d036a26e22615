"""Padding and micro-batches."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.policies.padding import MINIMUM_LENGTH_RATIO, collate, micro_batches, pad
from agents.trajectory import Choice, Decision
from reason_envs.errors import ReasonEnvsError


def decision(prompt, tokens):
    return Decision("e7", "agent", 0, Choice(tokens, None, None, "stop", 0, prompt, ""), 0.0, "group")


def test_pad():
    assert pad([[1], [2, 3], []], 9, side="left").tolist() == [[9, 1], [2, 3], [9, 9]]
    assert pad([[1], [2, 3], []], 9, side="right").tolist() == [[1, 9], [2, 3], [9, 9]]


def test_collate_aligns_the_start_of_all_responses():
    batch = collate([decision([1, 2], [3, 4, 5]), decision([6], [7])], pad_id=0).to(torch.device("cpu"))
    assert batch.prompt_width == 2
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [0, 6, 7, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1]]
    assert batch.response_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.same_prompt.tolist() == [0, 1]


def test_collate_distinguishes_sampled_pad_tokens_from_padding():
    batch = collate([decision([1], [0, 0]), decision([1], [0])], pad_id=0)
    assert batch.response_mask.tolist() == [[True, True], [True, False]]


def test_collate_refuses_an_empty_prompt():
    with pytest.raises(ReasonEnvsError, match="'e7', turn 0"):
        collate([decision([], [1])], pad_id=0)


def test_micro_batches_respect_area_and_rows():
    assert micro_batches([3, 1, 4, 1, 5], "abcde", max_tokens=8) == [[4], [2, 0], [1, 3]]
    assert micro_batches([3, 1, 4, 1, 5], "abcde", max_tokens=100, max_rows=2) == [[4, 2], [0], [1, 3]]
    assert micro_batches([10, 6, 5], "aaa", max_tokens=100) == [[0, 1], [2]]
    assert micro_batches([], [], max_tokens=8) == []


def test_micro_batches_keep_items_of_a_prompt_together():
    lengths, prompts = [10, 9, 9, 8, 8, 7], "abbaab"
    assert micro_batches(lengths, prompts, max_tokens=30) == [[0, 3, 4], [1, 2, 5]]
    assert micro_batches(lengths, prompts, max_tokens=60) == [[0, 1, 2, 3, 4, 5]]


def test_micro_batches_refuse_an_item_that_is_too_long():
    with pytest.raises(ReasonEnvsError, match=r"9 tokens .*micro_batch_tokens=8"):
        micro_batches([3, 9], "ab", max_tokens=8)


@given(
    items=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), max_size=40),
    max_tokens=st.integers(30, 120),
    max_rows=st.none() | st.integers(1, 6),
)
def test_micro_batches_contain_every_item_once(items, max_tokens, max_rows):
    lengths, prompts = [length for length, _ in items], [prompt for _, prompt in items]
    batches = micro_batches(lengths, prompts, max_tokens, max_rows)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[i] for i in batch) <= max_tokens
        assert max_rows is None or len(batch) <= max_rows
        assert min(lengths[i] for i in batch) >= MINIMUM_LENGTH_RATIO * max(lengths[i] for i in batch)
    # Greedy: no pass has room for the first item of the next one, unless that begins a band of shorter items.
    starts = band_starts(lengths)
    for batch, following in pairwise(batches):
        longest = max(lengths[i] for i in [*batch, following[0]])
        full = (len(batch) + 1) * longest > max_tokens or len(batch) + 1 > (max_rows or len(items))
        bands = [max(s for s in starts if s <= -lengths[i]) for i in (batch[0], following[0])]
        assert full or bands[0] != bands[1]


def band_starts(lengths):
    """Return the negative length of the longest item of each band."""
    starts = []
    for length in sorted(lengths, reverse=True):
        if not starts or length < MINIMUM_LENGTH_RATIO * -starts[-1]:
            starts.append(-length)
    return starts
