"""Verified weight synchronisation: a canary at the start, digests and probe scores after every transfer."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from torch import Tensor

from agents.losses import kl_estimate
from agents.policies.base import TrainablePolicy
from agents.policies.language import LanguagePolicy
from agents.policies.lora import adapter_weights, write_adapter
from agents.policies.roles import language_parts
from agents.policies.sharding import full_tensors
from agents.training.weight_changes import changed_weights
from agents.trajectory import Choice, Decision, Trajectory
from reason_envs.batching import gather
from reason_envs.errors import EngineError, ReasonEnvsError, first_line
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
WATCHED = 16
"""Maximum number of responses kept per step. The first one is compared, and all of them if it differs too much."""
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 3e-3, torch.float16: 1e-3}
"""Mean difference per sampled token between learner and engine that is always allowed, by the coarser dtype (nats)."""
START_LIMIT = {torch.float32: 2e-3, torch.bfloat16: 2e-1, torch.float16: 5e-2}
"""Maximum mean difference per sampled token that can be rounding, by the coarser dtype (nats)."""
CANARY_SHARES = (1.0, 0.5, 0.25, 0.1)
"""Shares of the canary's full change, tried in order until scores move by at most 1 nat. Larger changes round more."""
CANARY_LIMIT = 0.15
"""Maximum further difference after the canary's change, as a share of its effect on the scores."""
ROUNDING_FACTOR = 10
"""A run allows this multiple of the difference that rounding causes at its start, up to the start limit."""

MERGE_ERROR = (
    "The adapter changes the model when it is merged. Adapt other layers (such as policy.lora_target_modules=[q_proj]; "
    "not a head that shares its weights with the embedding), or train all weights (policy.lora_rank=0)."
)


class WeightSync:
    """Sends the weights of a policy to its engine and verifies that they arrived.

    A LoRA policy sends only its adapter if the engine takes adapters, and merged weights otherwise.
    """

    def __init__(self, policy: LanguagePolicy, engine: TrainableEngine) -> None:
        self._policy = policy
        self._engine = engine
        self._sends_adapter = policy.uses_lora and Capability.ADAPTERS in engine.capabilities
        dtypes = {next(policy.model.parameters()).dtype, engine.dtype, policy.precision}
        self._tolerance = max(TOLERANCE[dtype] for dtype in dtypes)
        self._limit = max(START_LIMIT[dtype] for dtype in dtypes)
        self._probes: list[Choice] = []

    def watch(self, choices: Sequence[Choice]) -> None:
        """Compare learner and engine on these sampled responses from now on."""
        self._probes = [
            replace(c, token_ids=c.token_ids[:PROBE_TOKENS], log_probs=c.log_probs and c.log_probs[:PROBE_TOKENS])
            for c in choices
            if c.prompt_ids and c.token_ids
        ] or self._probes

    async def canary(self) -> None:
        """Calibrate the check with equal weights, change all trained weights, and require that the engine follows.

        The change is random and temporary. It also shows whether a LoRA adapter is merged correctly.

        Raises:
            EngineError: the model does not run, learner and engine compute different log-probabilities for it, or the
                engine did not take all weights.
        """
        try:
            self.send(version=0)
            gaps = await self._calibrate()
            before = await self._engine_scores()
            for share in CANARY_SHARES:
                with changed_weights(self._policy, share):
                    self.send(version=0)
                    changed = await self._engine_scores()
                    gap = _mean_gap(self._learner_scores(self._probes)[0], changed)
                if (effect := _mean_gap(changed, before)) <= 1.0:
                    break
        except (ReasonEnvsError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the model's own code
            raise EngineError(
                f"{self._policy.architecture} cannot be trained with {type(self._engine).__name__} "
                f"({type(error).__name__}: {first_line(error)}). Use another model, another engine, or, for a LoRA "
                "adapter, other layers (policy.lora_target_modules) or another adapter."
            ) from error
        limit = min(self._limit, max(self._rounding(gaps), CANARY_LIMIT * effect + max(gaps)))
        if changed == before or not gap <= limit:
            raise EngineError(
                f"Weight canary: after a random change of all trained weights of {self._policy.architecture}, learner "
                f"and engine score a sampled response {gap:.2g} nats per token apart (limit {limit:.2g}). "
                + (MERGE_ERROR if self._policy.uses_lora else "The engine does not sample from all of its new weights.")
            )
        self._tolerance = self._rounding([*gaps, gap])
        await self.push(version=0)
        if await self._engine_scores() != before:
            raise EngineError("Weight canary: restored weights give other scores than before. Use another engine.")

    async def _calibrate(self) -> list[float]:
        """Sample probes in one batch, and return how far learner and engine differ for each at equal weights."""
        sampling = Sampling(max_tokens=min(PROBE_TOKENS, self._policy.max_tokens))
        groups = await gather(*(self._engine.generate(GenerationRequest(p, 0, sampling, n=2)) for p in PROBES))
        sampled = [(probe, answer) for probe, group in zip(PROBES, groups, strict=True) for answer in group]
        prompts = [encode_prompt(self._policy.tokenizer, probe) for probe, _ in sampled]
        choices = [
            Choice(answer.token_ids, None, sampling, answer.finish_reason, 0, prompt, answer.text)
            for prompt, (_, answer) in zip(prompts, sampled, strict=True)
        ]
        gaps, other_gaps, rounded = [], [0.0], [0.0]
        pairs = [self._learner_scores(choices[i : i + 2]) for i in range(0, len(choices), 2)]
        batches = zip(self._learner_scores(choices), chain(*pairs), strict=True)
        for choice, (_, answer), (in_batch, unpadded) in zip(choices, sampled, batches, strict=True):
            self._probes = [choice]
            scores, alone = await self._engine_scores(), self._learner_scores(self._probes)[0]
            gaps.append(_mean_gap(alone, scores))
            rounded.append(_mean_gap(unpadded, alone))  # a batch of one prompt is not padded on the left
            other_gaps.append(_mean_gap(in_batch, scores))
            if answer.log_probs is not None:
                other_gaps.append(_mean_gap(answer.log_probs, scores))
        limit = self._rounding([*gaps, *rounded])  # gaps are 0 if both run the same code
        if not all([*(gap <= self._limit for gap in gaps), *(gap <= limit for gap in other_gaps)]):  # false for NaN
            raise EngineError(
                f"Learner and engine disagree about the log-probabilities of {self._policy.architecture}: "
                f"{max(gaps):.2g} nats per token, and {max(other_gaps):.2g} in batches or between sampling and reading "
                f"again; at most {limit:.2g} can be rounding. This model cannot be trained with "
                f"{type(self._engine).__name__}: use another model or another engine, such as engine=vllm."
            )
        return gaps

    def _rounding(self, gaps: Sequence[float]) -> float:
        """Return the largest difference that can be rounding, given those at equal weights and equal sequences."""
        return min(max(self._tolerance, ROUNDING_FACTOR * max(gaps)), self._limit)

    async def push(self, version: int) -> dict[str, float]:
        """Send the weights after ``version`` training steps and check that they arrived.

        ``sync_gap`` is the mean difference of a sampled token's log-probability between learner and engine (nats), and
        ``step_kl`` the KL divergence per token from the weights that sampled the watched response to the present ones.

        Raises:
            EngineError: digests differ, or the probe's scores are further apart than rounding explains.
        """
        self.send(version)
        return await self.check(version)

    def send(self, version: int) -> None:
        """Send the current weights to the engine without a check."""
        weights = self._weights()
        if not self._sends_adapter:
            self._engine.load_weights(weights, version)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_adapter(self._policy.model, weights, Path(folder))
            self._engine.load_weights(Path(folder), version)

    async def check(self, version: int) -> dict[str, float]:
        """Check that the engine holds the present weights (see `push`)."""
        theirs = self._engine.weights_digest()
        if theirs is not None and (own := digest(self._weights())) != theirs:
            raise EngineError(
                f"Weights version {version} did not reach the engine: its digest is {theirs}, the learner's is {own}."
            )
        if not self._probes:
            await self._calibrate()
        ours, before = self._learner_scores(self._probes[:1])[0], self._probes[0].log_probs
        gap = _mean_gap(ours, await self._engine_scores())
        if not gap <= self._tolerance:  # a single short response may round far more than others
            scored = await gather(*(self._engine_scores(place) for place in range(len(self._probes))))
            gap = fmean(map(_mean_gap, self._learner_scores(self._probes), scored))
        if not gap <= self._tolerance:
            raise EngineError(
                f"After weights version {version} were sent, learner and engine score sampled responses {gap:.4f} "
                f"nats per token apart (tolerance {self._tolerance:.2g}). The engine does not sample from the "
                "learner's weights: use another engine, or resume from the last checkpoint."
            )
        if before is None:
            return {"sync_gap": gap}
        kl = kl_estimate(torch.tensor(before), torch.tensor(ours), clamp=20.0)  # nats
        return {"sync_gap": gap, "step_kl": kl.mean().item()}

    def _weights(self) -> dict[str, Tensor]:
        """Return the weights to send: the policy's adapter or its full weights, in the engine's dtype."""
        weights = adapter_weights(self._policy.model) if self._sends_adapter else self._policy.export_weights()
        return full_tensors(cast_weights(weights, self._engine.dtype))

    def _learner_scores(self, choices: Sequence[Choice]) -> list[list[float]]:
        """Return the learner's log-probabilities of the tokens of each choice, computed in one batch."""
        decisions = [Decision(str(i), "probe", 0, choice, 0.0, "probe") for i, choice in enumerate(choices)]
        with torch.no_grad(), self._policy.training_mode(False):
            rows = self._policy.evaluate(decisions).log_probs.tolist()
        return [row[: len(choice.token_ids)] for row, choice in zip(rows, choices, strict=True)]

    async def _engine_scores(self, place: int = 0) -> list[float]:
        probe = self._probes[place]
        assert probe.sampling is not None  # only language policies are synchronised
        prompt, temperature = probe.prompt_ids, probe.sampling.temperature or 1.0
        return await self._engine.score([*prompt, *probe.token_ids], len(prompt), temperature)


class PolicySync:
    """Sends the weights of each part of a policy to its engine and checks that each engine holds its part's weights.

    The parts are one for each role, or one for all. For a policy without engines, every method does nothing.
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

    def watched(self, trajectories: Sequence[Trajectory]) -> dict[str, list[Choice]]:
        """Return sampled responses of each part for `watch`: the first one and others at equal distances."""
        decisions = [decision for trajectory in trajectories for decision in trajectory.decisions]
        own = {role: [d.choice for d in decisions if role in ("", d.agent)] for role in self._syncs}
        return {role: choices[:: -(-len(choices) // WATCHED)] for role, choices in own.items() if choices}

    def watch(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        """Compare learner and engine on these sampled responses of each part from now on."""
        for role, sampled in choices.items():
            self._syncs[role].watch(sampled)

    async def push(self, version: int) -> dict[str, float]:
        """Make the weights after ``version`` training steps act.

        All are sent, then all are checked, since roles may share an engine by mistake. Each metric is the largest of
        all parts (see `WeightSync.push`); without engines there are none.
        """
        self._policy.version = version
        self.send(version)
        metrics: dict[str, float] = {}
        for role, sync in self._syncs.items():
            with _naming(role):
                checked = await sync.check(version)
            metrics |= {name: max(value, metrics.get(name, value)) for name, value in checked.items()}
        return metrics


@contextmanager
def _naming(role: str) -> Iterator[None]:
    """Add the role to the message of an error."""
    try:
        yield
    except ReasonEnvsError as error:
        if role:
            raise EngineError(f"Role {role!r}: {error}") from error
        raise


def _mean_gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the mean absolute difference of two lists of log-probabilities."""
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)
