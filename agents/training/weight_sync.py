"""Weights really arrive: a canary at the start, digests and probe scores after every synchronisation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from agents.policies.base import TrainablePolicy
from agents.policies.language import LanguagePolicy
from agents.policies.lora import adapter_weights, write_adapter
from agents.policies.roles import language_parts
from agents.trajectory import Choice, Decision
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import Capability, Sampling, TrainableEngine
from reason_envs.llm.weights import cast as cast_weights
from reason_envs.llm.weights import digest

PROBE = [{"role": "user", "content": "What is 12 + 30 - 4?"}]
PROBE_RESPONSE = "12 + 30 = 42\n42 - 4 = 38\n\\boxed{38}"
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference of a probe token's log-probability between learner and engine, by the coarser dtype (nats)."""
CANARY_SCALE = 1.5
CANARY_SHIFT = 0.1


class WeightSync:
    """Sends a policy's weights to its engine and checks that they got there.

    A LoRA policy sends its adapter alone where the engine takes adapters, and merged weights elsewhere.

    Args:
        policy: the learner's side.
        engine: the sampler's side.
    """

    def __init__(self, policy: LanguagePolicy, engine: TrainableEngine) -> None:
        if Capability.TRAINABLE not in engine.capabilities:
            raise ReasonEnvsError(
                f"{type(engine).__name__} cannot take new weights, so nothing could be learned with it. Use "
                "engine=transformers (or another engine whose capabilities include 'trainable')."
            )
        self._policy = policy
        self._engine = engine
        self._sends_adapter = policy.uses_lora and Capability.ADAPTERS in engine.capabilities
        self._prompt = encode_prompt(policy.tokenizer, PROBE)
        self._response = policy.tokenizer.encode(PROBE_RESPONSE, add_special_tokens=False)

    async def canary(self) -> None:
        """Scale one tensor, see the engine's scores move, restore it, see them return.

        Raises:
            ReasonEnvsError: the engine did not take the weights.
        """
        weights = self._weights()
        self._send(weights, version=0)
        before = await self._engine_scores()
        name = self._canary_name(weights)
        self._send({**weights, name: _half_changed(weights[name])}, version=0)
        moved = await self._engine_scores()
        if moved == before:
            raise ReasonEnvsError(
                f"Weight canary: half of {name} was changed and sent to the engine, but its scores did not move. The "
                "engine samples from other weights than it is given."
            )
        await self.push(version=0)
        if await self._engine_scores() != before:
            raise ReasonEnvsError("Weight canary: after restoring the weights the engine's scores did not return.")

    def _canary_name(self, weights: Mapping[str, Tensor]) -> str:
        """Choose the last matrix that is no embedding: only norms that see all of its output come after it."""
        vocabulary = len(self._policy.model.get_output_embeddings().weight)
        return [name for name, tensor in weights.items() if tensor.ndim == 2 and len(tensor) != vocabulary][-1]

    async def push(self, version: int) -> float:
        """Send the present weights.

        Returns:
            The largest difference of a probe token's log-probability between learner and engine.

        Raises:
            ReasonEnvsError: digests differ, or the probe's scores are further apart than rounding explains.
        """
        self.send(version)
        return await self.check(version)

    def send(self, version: int) -> None:
        """Send the present weights, unchecked."""
        self._send(self._weights(), version)

    async def check(self, version: int) -> float:
        """Compare what the engine has with the present weights, as ``push`` does after sending them."""
        self._compare_digests(self._weights(), version)
        learner, engine = self._learner_scores(), await self._engine_scores()
        gap = max(abs(a - b) for a, b in zip(learner, engine, strict=True))
        dtypes = {next(self._policy.model.parameters()).dtype, self._engine.dtype, self._policy.precision}
        tolerance = max(TOLERANCE[dtype] for dtype in dtypes)
        if not gap <= tolerance:
            raise ReasonEnvsError(
                f"After weights version {version} were sent, learner and engine score a probe {gap:.4f} nats apart "
                f"(tolerance {tolerance}). The engine does not sample from the learner's weights."
            )
        return gap

    def _weights(self) -> dict[str, Tensor]:
        """What is sent: the policy's adapter or its full weights, in the engine's dtype."""
        weights = adapter_weights(self._policy.model) if self._sends_adapter else self._policy.export_weights()
        return cast_weights(weights, self._engine.dtype)

    def _send(self, weights: Mapping[str, Tensor], version: int) -> None:
        if not self._sends_adapter:
            self._engine.load_weights(weights, version)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_adapter(self._policy.model, weights, Path(folder))
            self._engine.load_weights(Path(folder), version)

    def _compare_digests(self, weights: Mapping[str, Tensor], version: int) -> None:
        theirs = self._engine.weights_digest()
        if theirs is None:
            return
        ours = digest(weights)
        if ours != theirs:
            raise ReasonEnvsError(
                f"Weights version {version} did not reach the engine: its digest is {theirs}, the learner's {ours}."
            )

    def _learner_scores(self) -> list[float]:
        choice = Choice(
            token_ids=self._response,
            log_probs=None,
            sampling=Sampling(),
            finish_reason="stop",
            policy_version=0,
            prompt_ids=self._prompt,
            text=PROBE_RESPONSE,
        )
        decision = Decision(episode_id="probe", agent="probe", turn=0, choice=choice, reward=0.0, group_id="probe")
        with torch.no_grad(), self._policy.training_mode(False):
            return self._policy.evaluate([decision]).log_probs[0].tolist()

    async def _engine_scores(self) -> list[float]:
        return await self._engine.score([*self._prompt, *self._response], len(self._prompt))


class PolicySync:
    """Sends the weights of each part of a policy to its engine and checks that each engine holds its part's weights.

    A policy that samples without an engine has nothing to send: every method does nothing then.

    Args:
        policy: the policy whose parts (one for each role, or one for all) have engines.
    """

    def __init__(self, policy: TrainablePolicy) -> None:
        self._policy = policy
        parts = language_parts(policy)
        self._syncs = {name: WeightSync(part, cast(TrainableEngine, part.engine)) for name, part in parts.items()}

    async def canary(self) -> None:
        """Run the canary of each part (see `WeightSync.canary`)."""
        for role, sync in self._syncs.items():
            with _naming(role):
                await sync.canary()

    def send(self, version: int) -> None:
        """Send all present weights without a check."""
        for sync in self._syncs.values():
            sync.send(version)

    async def push(self, version: int) -> dict[str, float]:
        """Make the present weights act: send all, then check all, since roles may share an engine by mistake.

        Args:
            version: training steps behind these weights.

        Returns:
            ``sync_gap``, the largest gap of any part (see `WeightSync.push`); nothing without engines.
        """
        self._policy.version = version
        self.send(version)
        gaps = []
        for role, sync in self._syncs.items():
            with _naming(role):
                gaps.append(await sync.check(version))
        return {"sync_gap": max(gaps)} if gaps else {}


@contextmanager
def _naming(role: str) -> Iterator[None]:
    """Say whose weights an error is about."""
    try:
        yield
    except ReasonEnvsError as error:
        if role:
            raise ReasonEnvsError(f"Role {role!r}: {error}") from error
        raise


def _half_changed(weight: Tensor) -> Tensor:
    """Change half of the rows, since a normalisation that follows would undo the same scale on all of them.

    The shift is for new LoRA matrices, which are zero.
    """
    changed = weight.clone()
    half = slice(len(weight) // 2)
    changed[half] = changed[half] * CANARY_SCALE + CANARY_SHIFT * (not weight.any())
    return changed
