"""What policies of small networks share: they read arrays and draw one action (a choice of one token)."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.policies.base import Evaluation, sampling_temperatures
from agents.trajectory import Choice, Decision
from reason_envs.batching import MicroBatcher
from reason_envs.core import AgentId, Environment, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.loading import resolve_device
from reason_envs.llm.sampling import TokenSampler, uniforms

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MAX_ROWS = 512
"""Most observations of one forward pass while acting, so that memory does not grow with the number of episodes."""
ILLEGAL = -1e9
"""Logit of an illegal action: finite, so that entropies and gradients stay so, and of probability exactly 0."""

Arrays = dict[str, np.ndarray]
"""What a network reads of one observation."""


@dataclass(frozen=True)
class _Request:
    observations: Sequence[Arrays]
    seeds: Sequence[int]
    sampling: Sampling


class ActorCritic(nn.Module, ABC):
    """A network with a body (``readout``) and two linear heads on it."""

    readout_size: int
    """Numbers that the heads read."""
    actor: nn.Linear
    """Logits of the actions."""
    critic: nn.Linear
    """The value."""

    @abstractmethod
    def readout(self, observation: Any) -> Tensor:
        """Return what actor and critic read, [B, readout_size]."""

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Evaluate a batch.

        Args:
            observation: tensors [B, ...] of the observation's parts; more padding changes nothing.

        Returns:
            Logits [B, A], ``ILLEGAL`` where the mask is 0, and values [B].
        """
        readout = self.readout(observation)
        logits = self.actor(readout).masked_fill(observation["action_mask"] == 0, ILLEGAL)
        return logits, self.critic(readout).squeeze(-1)


class NetworkPolicy(ABC):
    """Draws actions from a network's masked distribution and learns its weights.

    Args:
        config: options; ``device`` among them.
        seed: the run's seed; keys the first weights.
        environment: what it will act in: its spaces give the network's shape, its ``action_names`` the choices' text
            (their numbers, where it has none).

    Raises:
        ReasonEnvsError: the network cannot read the environment.
    """

    samples_elsewhere = False
    scales_loss = False
    max_tokens = 1
    config_class: type
    """Of the options."""
    kind: str
    """Keys the first weights, beside the seed."""

    def __init__(self, config: Any, *, seed: int = 0, environment: Environment) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.sampling = Sampling(max_tokens=1)
        self.shape = self.shape_of(environment)
        self.action_names = environment.action_names or tuple(map(str, range(self.shape.actions)))
        self.version = 0
        """Of the weights, for the record of choices; whoever updates them sets it."""
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, self.kind))
            # Kept in training mode: it has no dropout, and attention's evaluation kernel rounds differently.
            self.network: ActorCritic = self.build().to(self.device)
        self._reference: nn.Module | None = None
        self._evaluating: nn.Module = self.network
        self.batcher = MicroBatcher(self._act, max_batch_size=MAX_ROWS)

    # --- what each network says

    @abstractmethod
    def shape_of(self, environment: Environment) -> Any:
        """Return what the network must know of an environment, a dataclass with the number of ``actions``."""

    @abstractmethod
    def build(self) -> ActorCritic:
        """Return a new network."""

    @abstractmethod
    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Return what is stored of an observation."""

    @abstractmethod
    def collate(self, observations: Sequence[Arrays]) -> dict[str, Tensor]:
        """Stack what was stored into what the network reads; ``action_mask`` is a part of it."""

    @abstractmethod
    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return what each decision costs in ``evaluate``."""

    # --- acting

    async def act(
        self,
        observations: Sequence[Arrays],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Draw an action for each observation; ``sampling`` overrides training's (temperature 0: the best)."""
        return await self.batcher(_Request(observations, seeds, sampling or self.sampling))

    @torch.no_grad()
    def _act(self, requests: list[_Request]) -> list[list[Choice]]:
        observations = [observation for request in requests for observation in request.observations]
        seeds = np.array([seed for request in requests for seed in request.seeds], np.uint64)
        samplings = [request.sampling for request in requests for _ in request.observations]
        logits, _ = self.network(self.collate(observations))
        draw = TokenSampler(samplings, self.device)
        actions, log_probs = draw(logits, uniforms(seeds, np.zeros(len(seeds), np.uint64)))
        rows = zip(actions.tolist(), log_probs.tolist(), samplings, strict=True)
        choices = iter([self._choice(*row) for row in rows])
        return [[next(choices) for _ in request.observations] for request in requests]

    def _choice(self, action: int, log_prob: float, sampling: Sampling) -> Choice:
        return Choice(
            token_ids=[action],
            log_probs=[log_prob],
            sampling=sampling,
            finish_reason="stop",
            policy_version=self.version,
            prompt_ids=[],
            text=self.action_names[action],
        )

    def fits(self, observation: Arrays) -> bool:
        """Every observation does."""
        return True

    def action(self, environment: Environment, choice: Choice) -> int:
        """Return the environment's action."""
        return choice.token_ids[0]

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate the stored actions under the current weights (within ``reference()``: the frozen ones).

        Every tensor is [B, 1].
        """
        logits, values = self._evaluating(self.collate([d.observation for d in decisions]))
        temperatures = torch.tensor(sampling_temperatures(decisions), device=self.device)
        log_probs = torch.log_softmax(logits / temperatures[:, None], dim=-1)
        chosen = torch.tensor([d.choice.token_ids for d in decisions], device=self.device)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        mask = torch.ones_like(chosen, dtype=torch.bool)
        return Evaluation(log_probs.gather(-1, chosen), entropy, mask, values[:, None])

    def prepare_values(self) -> None:  # noqa: B027
        """Change nothing: the network always gives values."""

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the critic's parameters."""
        return self.network.critic.parameters()

    def moved(self, decision: Decision, observation: Any) -> Decision:
        """Return the decision as if it had been taken at another observation."""
        return replace(decision, observation=observation)

    def prepare_reference(self) -> None:
        """Freeze a copy of the present weights as the reference."""
        self._reference = copy.deepcopy(self.network).requires_grad_(False)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights, without gradients."""
        if self._reference is None:
            raise ReasonEnvsError("The policy has no reference: call prepare_reference first.")
        self._evaluating = self._reference
        try:
            with torch.no_grad():
                yield
        finally:
            self._evaluating = self.network

    def training_mode(self, enabled: bool) -> AbstractContextManager[None]:
        """Change nothing: there is no dropout."""
        return nullcontext()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the trainable parameters."""
        return (p for p in self.network.parameters() if p.requires_grad)

    # --- files

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the trainable weights by name."""
        return {name: p.detach() for name, p in self.network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``state_tensors`` returned.

        Raises:
            ReasonEnvsError: the weights belong to a network of other options, or for other trees.
        """
        own = self.state_tensors()
        if own.keys() != tensors.keys() or any(own[n].shape != t.shape for n, t in tensors.items()):
            raise ReasonEnvsError(
                f"The weights do not fit this policy ({self.shape}, {self.config}): use the options and the "
                "environment that they were trained with (the number of actions counts, and a tree's max_depth)."
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        options = {f.name: getattr(self.config, f.name) for f in fields(self.config) if f.name != "device"}
        text = json.dumps({"options": options, "shape": asdict(self.shape)}, indent=2)
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in self.state_tensors().items()}, folder / WEIGHTS_FILE
        )

    @classmethod
    def from_pretrained(cls, folder: Path, *, environment: Environment, device: str = "auto") -> Self:
        """Load what ``save_pretrained`` wrote, to act in an environment of the same shape."""
        if not (folder / CONFIG_FILE).is_file():
            raise ReasonEnvsError(f"{folder} holds no policy of this kind: it has no {CONFIG_FILE}.")
        options = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["options"]
        policy = cls(cls.config_class(**options, device=device), environment=environment)
        policy.load_state_tensors(load_file(folder / WEIGHTS_FILE))
        return policy
