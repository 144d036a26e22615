"""The size of forward and backward passes: given, planned from the memory of activations, halved if memory runs out."""

import logging
from collections.abc import Sequence

import torch

from agents import distributed
from agents.policies.activations import is_out_of_memory
from agents.policies.base import TrainablePolicy
from agents.policies.padding import micro_batches
from agents.trajectory import Decision

_log = logging.getLogger(__name__)

MAXIMUM_TOKENS = 16384
"""Maximum number of tokens per pass that is planned. Larger passes are not faster."""
ACTIVATION_BYTES = 2 << 30
"""Bytes that the activations of a planned pass may take on a CPU. Fixed, so that all machines compute the same."""


class PassSize:
    """Cuts decisions into passes that fit into memory.

    A pass has at most ``tokens`` tokens; ``None``: their number is planned at the first use.
    """

    def __init__(self, policy: TrainablePolicy, tokens: int | None) -> None:
        self._policy = policy
        self._given = tokens
        self._tokens = tokens

    def cut(self, decisions: Sequence[Decision], rows: int | None) -> list[list[int]]:
        """Return the indices of the decisions of each pass, with at most ``rows`` decisions each."""
        if not decisions:
            return []
        if self._tokens is None:
            per_token, device = self._policy.activation_bytes(), self._policy.device
            budget = ACTIVATION_BYTES
            if device.type == "cuda":
                budget = min(distributed.all_gather(torch.cuda.mem_get_info(device)[0])) // 2
            self._tokens = min(MAXIMUM_TOKENS, budget // per_token) if per_token else MAXIMUM_TOKENS
        lengths = self._policy.lengths(decisions)
        prompts = [tuple(decision.choice.prompt_ids) for decision in decisions]
        limit = max(self._tokens, min(max(lengths), self._given or max(lengths)))
        return micro_batches(lengths, prompts, limit, rows)

    def halve(self, error: RuntimeError, decisions: Sequence[Decision], cuts: Sequence[Sequence[int]]) -> None:
        """Halve the size after an error in the passes ``cuts``. Passes of one decision recompute their activations.

        Raises:
            RuntimeError: ``error``, if it is not about memory, no pass can be smaller, or there are other processes.
        """
        if distributed.size() > 1 or not is_out_of_memory(error):
            raise error
        lengths = self._policy.lengths(decisions)
        largest = max(len(cut) * max(lengths[i] for i in cut) for cut in cuts)
        if max(map(len, cuts)) > 1:
            self._tokens = largest // 2
            change, option = f"have up to {self._tokens} tokens", f"algo.micro_batch_tokens={self._tokens}"
        elif self._policy.recompute_activations():
            change, option = "recompute activations", "policy.gradient_checkpointing=true"
        else:
            raise error
        _log.warning(
            "Out of memory in passes of up to %d tokens. The mini-batch is repeated and passes %s from now on, which "
            "does not change the loss. Set %s to start so.",
            *(largest, change, option),
        )
