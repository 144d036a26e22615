"""Keys and values kept between calls, so that a request that continues an earlier sample reads its last token alone."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

Tokens = tuple[int, ...]


@dataclass(eq=False)
class Prefix:
    """The keys and values of some tokens; those of the tokens before them are its parent's, shared by all children."""

    parent: Prefix | None
    """What stands before."""
    length: int
    """Tokens from the very beginning to the end of this part."""
    states: Tensor | None
    """Keys and values of every layer, [2 x layers, heads, tokens, head_dim]; ``None`` once they were given up."""

    def chain(self) -> list[Prefix]:
        """Return the parts from the beginning to this one."""
        parts: list[Prefix] = []
        part: Prefix | None = self
        while part is not None:
            parts.append(part)
            part = part.parent
        return parts[::-1]

    @property
    def is_whole(self) -> bool:
        """Whether every part is still there."""
        return all(part.states is not None for part in self.chain())


class PrefixStore:
    """Makes prefixes of one model and, between batches, gives up the oldest ones beyond a limit.

    A prefix lives as long as somebody holds it, so what is reused depends on the holder's own history alone.

    Args:
        config: of the model.
        limit_bytes: most memory of all prefixes together.
    """

    def __init__(self, config: PretrainedConfig, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        """Memory of the prefixes that live."""
        # Layers that forget (sliding windows, states) cannot be cut at a token.
        self._fits = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
        self._living: OrderedDict[int, weakref.ref[Prefix]] = OrderedDict()

    @property
    def enabled(self) -> bool:
        """Whether the model's keys and values can be kept, and memory is set aside for them."""
        return self._fits and self.limit_bytes > 0

    def add(self, parent: Prefix | None, states: Tensor) -> Prefix:
        """Keep the keys and values of the tokens after ``parent``."""
        start = 0 if parent is None else parent.length
        prefix = Prefix(parent, start + states.shape[-2], states)
        key, size = id(prefix), states.nbytes
        self._living[key] = weakref.ref(prefix)
        self.held_bytes += size
        weakref.finalize(prefix, self._forget, key, size)
        return prefix

    def usable(self, prefix: Prefix | None, prompt_tokens: int) -> Prefix | None:
        """Return a prefix of a prompt if it was made here, is still there, and leaves a token to read."""
        if prefix is None or prefix.length >= prompt_tokens:
            return None
        ours = self._living.get(id(prefix), lambda: None)() is prefix
        return prefix if ours and prefix.is_whole else None

    def trim(self) -> None:
        """Give up the oldest beyond the limit; not while a batch is read, which relies on what was usable before it."""
        while self.held_bytes > self.limit_bytes:
            self._give_up_oldest()

    def clear(self) -> None:
        """Give up everything: the weights have changed."""
        while self._living:
            self._give_up_oldest()

    def _give_up_oldest(self) -> None:
        _, reference = self._living.popitem(last=False)
        prefix = reference()
        if prefix is not None and prefix.states is not None:
            self.held_bytes -= prefix.states.nbytes
            prefix.states = None

    def _forget(self, key: int, size: int) -> None:
        """Count a prefix that nobody holds any more, unless it was given up before."""
        if self._living.pop(key, None) is not None:
            self.held_bytes -= size


@dataclass
class PromptReader:
    """Reads the prompts of a batch, behind what is kept of them."""

    store: PrefixStore
    """Where prefixes are kept."""
    new_cache: Callable[[], Any]
    """Makes an empty cache."""
    model: Callable[[Tensor, Tensor, Tensor, Any], Tensor]
    """Maps token ids, attention mask, positions and cache to the logits after the last token."""
    device: torch.device
    """Where the model lies."""

    def read(self, rows: Sequence[Tokens], prefixes: Sequence[Prefix | None]) -> tuple[Tensor, Any, Tensor]:
        """Read token rows, each behind its prefix.

        Returns:
            Logits after the last token [rows, vocabulary], the cache, and its attention mask [rows, longest].
        """
        cache, width = self.new_cache(), max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=self.device)
        new = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        mask = torch.cat([lay_out(prefixes, cache, self.device), new], dim=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -width:]
        return self.model(ids, mask, positions, cache), cache, mask

    def prefixes(self, prompts: Sequence[Tokens], known: Sequence[Prefix | None]) -> list[Prefix | None]:
        """Return the prefix of each prompt that its last token comes behind, reading what is not known yet."""
        prefixes = list(known)
        behind = [i for i, prompt in enumerate(prompts) if _length(known[i]) < len(prompt) - 1]
        if behind:
            rows = [prompts[i][_length(known[i]) : -1] for i in behind]
            _, cache, mask = self.read(rows, [known[i] for i in behind])
            everyone = torch.arange(len(behind), device=self.device)
            states = states_of(cache, everyone, mask.shape[1] - max(map(len, rows)))
            for i, row, own in zip(behind, rows, states, strict=True):
                prefixes[i] = self.store.add(known[i], own[:, :, -len(row) :].clone())
        return prefixes


def _length(prefix: Prefix | None) -> int:
    return 0 if prefix is None else prefix.length


def states_of(cache: Any, rows: Tensor, start: int) -> Tensor:
    """Return keys and values of rows from position ``start`` on, [rows, 2 x layers, heads, tokens, head_dim]."""
    parts = [tensor[rows, :, start:] for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return torch.stack(parts, dim=1)


def lay_out(prefixes: Sequence[Prefix | None], cache: Any, device: torch.device) -> Tensor:
    """Write prefixes into an empty cache, a row each, padded on the left.

    Returns:
        The attention mask, [rows, longest].
    """
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
