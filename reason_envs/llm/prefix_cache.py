"""Keys and values kept between calls, so that a request that continues an earlier sample reads only new tokens."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

Tokens = tuple[int, ...]


@dataclass(eq=False)
class Prefix:
    """Keys and values of a sequence of tokens. Its first part is a parent that other prefixes may share."""

    parent: Prefix | None
    """Prefix of the preceding tokens. ``None``: there are none."""
    length: int
    """Number of tokens, including those of the parent."""
    states: Tensor | None
    """Keys and values of all layers for the tokens after the parent, [2 x layers, heads, tokens, head_dim]. ``None``:
    the store has freed them."""

    def chain(self) -> list[Prefix]:
        """Return all parts in order, this prefix last."""
        parts: list[Prefix] = []
        part: Prefix | None = self
        while part is not None:
            parts.append(part)
            part = part.parent
        return parts[::-1]


class PrefixStore:
    """Creates the prefixes of one model. Between batches it frees the least recently used ones above a limit in bytes.

    A prefix exists as long as something refers to it. Therefore the reuse of a prefix depends on the history of its
    owner alone.
    """

    def __init__(self, config: PretrainedConfig, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        """Memory of all prefixes in bytes."""
        self.reread_tokens = 0
        """Number of tokens that had to be read again, because their prefixes had been freed."""
        # Layers that discard tokens (sliding windows, recurrent states) cannot be cut at a token.
        is_supported = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        self.enabled = is_supported and limit_bytes > 0
        """Whether the model supports prefixes and the limit is above 0."""
        self._living: OrderedDict[int, tuple[weakref.ref[Prefix], int]] = OrderedDict()
        # Owners drop prefixes in the event loop's thread. Reentrant, because any allocation may collect garbage.
        self._lock = threading.RLock()

    def add(self, parent: Prefix | None, states: Tensor) -> Prefix:
        """Create a prefix from the keys and values of the tokens after ``parent``."""
        start = 0 if parent is None else parent.length
        prefix = Prefix(parent, start + states.shape[-2], states)
        with self._lock:
            self._living[id(prefix)] = weakref.ref(prefix), states.nbytes
            self.held_bytes += states.nbytes
            self._use(prefix.chain())
        weakref.finalize(prefix, self._forget, id(prefix))
        return prefix

    def usable(self, prefix: Prefix | None, prompt_tokens: int) -> Prefix | None:
        """Return the longest part of a prefix that this store holds, and that leaves a prompt token to read."""
        with self._lock:
            parts = [part for part in ([] if prefix is None else prefix.chain()) if part.length < prompt_tokens]
            held = list(takewhile(lambda part: id(part) in self._living, parts))
            self._use(held)
            self.reread_tokens += sum(part.length - _length(part.parent) for part in parts[len(held) :])
        return held[-1] if held else None

    def _use(self, parts: list[Prefix]) -> None:
        """Let the parts of a prefix be freed after all others, and the first ones, which others share, at the end."""
        for part in reversed(parts):
            if id(part) in self._living:
                self._living.move_to_end(id(part))

    def trim(self, limit_bytes: int | None = None) -> None:
        """Free prefixes above the limit (0: all). Call it between batches: a running batch relies on its prefixes."""
        with self._lock:
            while self.held_bytes > (self.limit_bytes if limit_bytes is None else limit_bytes):
                reference, size = self._living.popitem(last=False)[1]
                self.held_bytes -= size
                if (prefix := reference()) is not None:
                    prefix.states = None

    def _forget(self, key: int) -> None:
        """Subtract the memory of a prefix without references, unless it was freed before."""
        with self._lock:
            _, size = self._living.pop(key, (None, 0))
            self.held_bytes -= size


@dataclass
class PromptReader:
    """Reads the prompts of a batch, each after its prefix."""

    store: PrefixStore
    """Store for new prefixes."""
    new_cache: Callable[[], Any]
    """Function that creates an empty key-value cache."""
    model: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    """Maps token ids, attention mask, positions and cache to logits."""
    device: torch.device
    """Device of the model."""

    def read(self, rows: Sequence[Tokens], prefixes: Sequence[Prefix | None]) -> tuple[Tensor, Any, Tensor]:
        """Read token rows, each after its prefix; return the logits, the cache and its mask, [rows, longest]."""
        cache, width = self.new_cache(), max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=self.device)
        new = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        mask = torch.cat([fill_cache(prefixes, cache, self.device), new], dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -width:]
        return self.model(ids, mask, positions, cache), cache, mask

    def prefixes(self, prompts: Sequence[Tokens], cached: Sequence[Prefix | None]) -> list[Prefix | None]:
        """Return a prefix for each prompt that covers all of its tokens but the last.

        Only the tokens after the prefix that exists already, in ``cached``, are read.
        """
        prefixes = list(cached)
        unread = [i for i, prompt in enumerate(prompts) if _length(cached[i]) < len(prompt) - 1]
        if unread:
            rows = [prompts[i][_length(cached[i]) : -1] for i in unread]
            _, cache, mask = self.read(rows, [cached[i] for i in unread])
            all_rows = torch.arange(len(unread), device=self.device)
            states = states_of(cache, all_rows, mask.shape[1] - max(map(len, rows)))
            for i, row, own in zip(unread, rows, states, strict=True):
                prefixes[i] = self.store.add(cached[i], own[:, :, -len(row) :].clone())
        return prefixes


def _length(prefix: Prefix | None) -> int:
    return 0 if prefix is None else prefix.length


def states_of(cache: Any, rows: Tensor, start: int) -> Tensor:
    """Return keys and values of cache rows from position ``start``, [rows, 2 x layers, heads, tokens, head_dim]."""
    parts = [tensor[rows, :, start:] for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return torch.stack(parts, dim=1)


def fill_cache(prefixes: Sequence[Prefix | None], cache: Any, device: torch.device) -> Tensor:
    """Write one prefix per row into an empty cache, padded on the left; return the mask, [rows, longest]."""
    longest = max(map(_length, prefixes))
    mask = torch.zeros(len(prefixes), longest, dtype=torch.long)
    chains = [[] if prefix is None else prefix.chain() for prefix in prefixes]
    like = next((chain[0].states for chain in chains if chain), None)
    if like is None:
        return mask.to(device)
    states = like.new_zeros(len(prefixes), *like.shape[:2], longest, like.shape[-1])
    for row, chain in enumerate(chains):
        end = longest - _length(prefixes[row])
        mask[row, end:] = 1
        for part in chain:
            assert part.states is not None
            start, end = end, end + part.states.shape[-2]
            states[row, :, :, start:end] = part.states
    for number, layer in enumerate(cache.layers):
        layer.update(states[:, 2 * number], states[:, 2 * number + 1])
    return mask.to(device)
