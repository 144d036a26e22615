"""A key-value cache for batched decoding: preallocated, with rows that can be repeated and dropped."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):
    """A dynamic layer that writes new tokens into spare room instead of copying all tokens at each step.

    If the room is too small, it grows, with ``spare`` positions for later tokens.
    """

    def __init__(self, spare: int) -> None:
        super().__init__()
        self._spare = spare
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values, [rows, heads, new, head_dim], and return those of all tokens so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._room is None or end > self._room[0].shape[-2]:
            self._room = self._grown(self.keys, end), self._grown(self.values, end)
        self._room[0][:, :, start:end] = key_states
        self._room[1][:, :, start:end] = value_states
        self.keys, self.values = self._room[0][:, :, :end], self._room[1][:, :, :end]
        return self.keys, self.values

    def _grown(self, tensor: Tensor | None, end: int) -> Tensor:
        assert tensor is not None
        rows, heads, length, width = tensor.shape
        room = tensor.new_empty(rows, heads, end + self._spare, width)
        room[:, :, :length] = tensor
        return room

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Keep or repeat rows by index, [M]."""
        super().reorder_cache(beam_idx)
        self._room = None


def decoding_cache(config: PretrainedConfig, spare: int) -> DynamicCache:
    """Create a cache for a model whose full-attention layers grow by ``spare`` positions at a time."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer(spare) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Keep or repeat rows of a cache by index, [M]; layers with recurrent states select those too."""
    with torch.inference_mode():
        for layer in cache.layers:
            layer.reorder_cache(cast(torch.LongTensor, rows))
