"""Verified weight synchronisation: a canary at the start, digests and probe scores after every transfer."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from agents.policies.base import TrainablePolicy
from agents.policies.language import LanguagePolicy
from agents.policies.lora import adapter_weights, write_adapter
from agents.policies.roles import language_parts
from agents.trajectory import Choice, Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.errors import EngineError, ReasonEnvsError
from reason_envs.llm.chat import encode_prompt
from reason_envs.llm.engine import Capability, GenerationRequest, Sampling, TrainableEngine
from reason_envs.llm.weights import cast as cast_weights
from reason_envs.llm.weights import digest

PROBES = (
    [{"role": "user", "content": "What is 12 + 30 - 4?"}],
    [{"role": "user", "content": "Add the numbers from one to five, then say how you did it."}],
)
"""Prompts of different lengths; the engine answers them in one batch before the first step."""
PROBE_TOKENS = 48
"""Maximum number of tokens that a probe compares."""
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Mean difference per sampled token between learner and engine that is always allowed, by the coarser dtype (nats)."""
ROUNDING_FACTOR = 10
"""A run allows this multiple of the difference that rounding causes at its start."""
CANARY_SCALE = 1.5
"""Factor of the canary's change to a tensor."""
CANARY_SHIFT = 0.1
"""Constant that the canary adds to a tensor of zeros."""


class WeightSync:
    """Sends the weights of a policy to its engine and verifies that they arrived.

    A LoRA policy sends only its adapter if the engine takes adapters, and merged weights otherwise.

    Args:
        policy: the policy that is trained.
        engine: the engine that samples for it.

    Raises:
        EngineError: the engine cannot take new weights.
    """

    def __init__(self, policy: LanguagePolicy, engine: TrainableEngine) -> None:
        if Capability.TRAINABLE not in engine.capabilities:
            raise EngineError(
                f"{type(engine).__name__} cannot take new weights, so it cannot sample for a policy that is trained: "
                "use engine=transformers or another engine with the capability 'trainable'."
            )
        self._policy = policy
        self._engine = engine
        self._sends_adapter = policy.uses_lora and Capability.ADAPTERS in engine.capabilities
        dtypes = {next(policy.model.parameters()).dtype, engine.dtype, policy.precision}
        self._tolerance = max(TOLERANCE[dtype] for dtype in dtypes)
        self._probe: Choice | None = None

    def watch(self, choice: Choice) -> None:
        """Compare learner and engine on this sampled response from now on."""
        if choice.prompt_ids and choice.token_ids:
            self._probe = replace(choice, token_ids=choice.token_ids[:PROBE_TOKENS], log_probs=None)

    async def canary(self) -> None:
        """Calibrate the check with equal weights, change one tensor, and require that the engine's scores follow.

        Raises:
            EngineError: learner and engine compute different log-probabilities for this model, or the engine did not
                take the weights.
        """
        weights = self._weights()
        self._send(weights, version=0)
        await self._calibrate()
        before = await self._engine_scores()
        name = self._canary_name(weights)
        self._send({**weights, name: _half_changed(weights[name])}, version=0)
        moved = await self._engine_scores()
        if moved == before:
            raise EngineError(
                f"Weight canary: half of {name} was changed and sent to the engine, but its scores did not change. The "
                "engine does not sample from the weights that it receives: use another engine."
            )
        await self.push(version=0)
        if await self._engine_scores() != before:
            raise EngineError("Weight canary: restored weights give other scores than before. Use another engine.")

    async def _calibrate(self) -> None:
        """Sample probes in one batch, and measure how far learner, engine and decoding differ at equal weights."""
        sampling = Sampling(max_tokens=min(PROBE_TOKENS, self._policy.max_tokens))
        requests = [GenerationRequest(probe, 0, sampling, n=2) for probe in PROBES]
        groups = await gather(*(self._engine.generate(request) for request in requests))
        gaps, decoding_gaps = [0.0], [0.0]
        for probe, sampled in ((p, s) for p, group in zip(PROBES, groups, strict=True) for s in group):
            self._probe = Choice(
                token_ids=sampled.token_ids,
                log_probs=None,
                sampling=sampling,
                finish_reason=sampled.finish_reason,
                policy_version=0,
                prompt_ids=encode_prompt(self._policy.tokenizer, probe),
                text=sampled.text,
            )
            engine = await self._engine_scores()
            gaps.append(_mean_gap(self._learner_scores(), engine))
            if sampled.log_probs is not None:
                decoding_gaps.append(_mean_gap(sampled.log_probs, engine))
        limit = ROUNDING_FACTOR * self._tolerance
        if not all(gap <= limit for gap in (*gaps, *decoding_gaps)):  # false for NaN
            raise EngineError(
                f"Learner and engine disagree about the log-probabilities of {self._policy.architecture}: "
                f"{max(gaps):.2g} nats per token, and {max(decoding_gaps):.2g} between sampling and reading again; at "
                f"most {limit:.2g} can be rounding. This model cannot be trained with "
                f"{type(self._engine).__name__}: use another model or another engine, such as engine=vllm."
            )
        self._tolerance = min(max(self._tolerance, ROUNDING_FACTOR * max(gaps)), limit)

    def _canary_name(self, weights: Mapping[str, Tensor]) -> str:
        """Return the name of the last matrix that is not an embedding and has at least two rows."""
        vocabulary = self._policy.model.get_input_embeddings().weight.shape[0]
        return [n for n, tensor in weights.items() if tensor.ndim == 2 and len(tensor) not in (1, vocabulary)][-1]

    async def push(self, version: int) -> float:
        """Send the present weights and check that they arrived.

        Args:
            version: training steps behind these weights.

        Returns:
            The mean difference of a sampled token's log-probability between learner and engine (nats).

        Raises:
            EngineError: digests differ, or the probe's scores are further apart than rounding explains.
        """
        self.send(version)
        return await self.check(version)

    def send(self, version: int) -> None:
        """Send the current weights to the engine without a check."""
        self._send(self._weights(), version)

    async def check(self, version: int) -> float:
        """Check that the engine holds the present weights (see `push`)."""
        self._compare_digests(self._weights(), version)
        if self._probe is None:
            await self._calibrate()
        gap = _mean_gap(self._learner_scores(), await self._engine_scores())
        if not gap <= self._tolerance:
            raise EngineError(
                f"After weights version {version} were sent, learner and engine score a sampled response {gap:.4f} "
                f"nats per token apart (tolerance {self._tolerance:.2g}). The engine does not sample from the "
                "learner's weights: use another engine, or resume from the last checkpoint."
            )
        return gap

    def _weights(self) -> dict[str, Tensor]:
        """Return the weights to send: the policy's adapter or its full weights, in the engine's dtype."""
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
            raise EngineError(
                f"Weights version {version} did not reach the engine: its digest is {theirs}, the learner's is {ours}."
            )

    def _learner_scores(self) -> list[float]:
        assert self._probe is not None
        decision = Decision(episode_id="probe", agent="probe", turn=0, choice=self._probe, reward=0.0, group_id="probe")
        with torch.no_grad(), self._policy.training_mode(False):
            return self._policy.evaluate([decision]).log_probs[0].tolist()

    async def _engine_scores(self) -> list[float]:
        assert self._probe is not None
        assert self._probe.sampling is not None  # only language policies are synchronised
        prompt, temperature = self._probe.prompt_ids, self._probe.sampling.temperature or 1.0
        return await self._engine.score([*prompt, *self._probe.token_ids], len(prompt), temperature)


class PolicySync:
    """Sends the weights of each part of a policy to its engine and checks that each engine holds its part's weights.

    For a policy that samples without an engine, every method does nothing.

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

    def watched(self, trajectories: Sequence[Trajectory]) -> dict[str, Choice]:
        """Return the sampled response that `watch` takes of each part: its first one."""
        decisions = [decision for trajectory in trajectories for decision in trajectory.decisions]
        first = {role: next((d for d in decisions if role in ("", d.agent)), None) for role in self._syncs}
        return {role: decision.choice for role, decision in first.items() if decision is not None}

    def watch(self, choices: Mapping[str, Choice]) -> None:
        """Compare learner and engine on these sampled responses from now on, one for each part."""
        for role, choice in choices.items():
            self._syncs[role].watch(choice)

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
    """Add the role to the message of an error."""
    try:
        yield
    except ReasonEnvsError as error:
        if role:
            raise EngineError(f"Role {role!r}: {error}") from error
        raise


def _half_changed(weight: Tensor) -> Tensor:
    """Return the matrix with half of its rows changed: a later normalisation could undo the same change of all rows.

    The matrices of a new LoRA adapter are zero, so a constant is added to them.
    """
    changed = weight.clone()
    half = slice(len(weight) // 2)
    changed[half] = changed[half] * CANARY_SCALE + CANARY_SHIFT * (not weight.any())
    return changed


def _mean_gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the mean absolute difference of two lists of log-probabilities."""
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)
