"""The base class of policies with small networks: they read arrays and choose one action (a choice of one token)."""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from agents.policies.base import Evaluation, TrainablePolicy, sampling_temperatures
from agents.policies.seeding import seeded
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
"""Maximum number of observations per forward pass while acting; it bounds the memory for any number of episodes."""
ILLEGAL = -1e9
"""Logit of an illegal action. Its probability is exactly 0, and entropies and gradients stay finite."""

Arrays = dict[str, np.ndarray]
"""One observation, as the network's input arrays by name."""


@dataclass(frozen=True)
class _Request:
    observations: Sequence[Arrays]
    seeds: Sequence[int]
    sampling: Sampling


class ActorCritic(nn.Module, ABC):
    """A network with a body (``readout``) and two linear heads."""

    readout_size: int
    """Number of features that the heads read."""
    actor: nn.Linear
    """Head that computes the logits of the actions."""
    critic: nn.Linear
    """Head that computes the state value."""

    @abstractmethod
    def readout(self, observation: Any) -> Tensor:
        """Return the features that actor and critic read, [B, readout_size]."""

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Evaluate a batch: tensors [B, ...] by name. Padding does not change the result.

        Returns:
            Logits [B, A], ``ILLEGAL`` where the mask is 0, and values [B].
        """
        readout = self.readout(observation)
        logits = self.actor(readout).masked_fill(observation["action_mask"] == 0, ILLEGAL)
        return logits, self.critic(readout).squeeze(-1)


class NetworkPolicy(TrainablePolicy):
    """Samples actions from a network's masked distribution, and trains the network.

    A subclass must set ``config_class``, ``network_class`` and ``kind`` and implement ``shape_of`` and ``observe``.

    Args:
        config: the options, with a field ``device``.
        seed: the run's seed; it keys the initial weights.
        environment: the environment to act in. Its spaces give the network's shape; its ``action_names`` give the text
            of choices (numbers if it has no names).

    Raises:
        ReasonEnvsError: the network cannot read the environment's observations.
    """

    max_tokens = 1
    config_class: type
    """The dataclass of the options."""
    network_class: Callable[[Any, Any], ActorCritic]
    """The class of the network, which is made from the shape and the options."""
    kind: str
    """Name that keys the initial weights together with the seed."""

    def __init__(self, config: Any, *, seed: int = 0, environment: Environment) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.sampling = Sampling(max_tokens=1)
        self.shape = self.shape_of(environment)
        self.action_names = environment.action_names or tuple(map(str, range(self.shape.actions)))
        with seeded(derive_seed(seed, self.kind), torch.device("cpu")):
            # Kept in training mode: it has no dropout, and attention's evaluation kernel rounds differently.
            self.network = self.network_class(self.shape, config).to(self.device)
        self._reference: nn.Module = self.network
        self._evaluating: nn.Module = self.network
        self.batcher = MicroBatcher(self._act, max_batch_size=MAX_ROWS)

    # --- defined by each kind of network

    @abstractmethod
    def shape_of(self, environment: Environment) -> Any:
        """Return the sizes that the network needs, a dataclass with a field ``actions`` (their number)."""

    @abstractmethod
    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Convert an observation into the arrays that decisions store."""

    def collate(self, observations: Sequence[Arrays]) -> dict[str, Tensor]:
        """Stack stored arrays into the network's input, which includes ``action_mask``; shorter ones end with zeros."""
        rows = {name: [torch.from_numpy(arrays[name]) for arrays in observations] for name in observations[0]}
        return {name: pad_sequence(parts, batch_first=True).to(self.device) for name, parts in rows.items()}

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the cost of each decision in ``evaluate``; by default 1, since an observation is one row."""
        return [1] * len(decisions)

    # --- acting

    async def act(
        self,
        observations: Sequence[Arrays],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Sample one action per observation; temperature 0 chooses the best action."""
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
        choices = iter([self.choice(*row) for row in rows])
        return [[next(choices) for _ in request.observations] for request in requests]

    def choice(self, action: int, log_prob: float, sampling: Sampling) -> Choice:
        """Return an action of the current weights as a choice of one token."""
        return Choice([action], [log_prob], sampling, "stop", self.version, [], text=self.action_names[action])

    def action(self, environment: Environment, choice: Choice) -> int:
        """Return the number of the chosen action."""
        return choice.token_ids[0]

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate stored actions under the current weights, or within ``reference()`` under the frozen ones.

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

    def prepare_values(self) -> None:
        """Do nothing: the network always returns values."""

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the critic's parameters."""
        return self.network.critic.parameters()

    def prepare_reference(self) -> None:
        """Freeze a copy of the current weights as the reference."""
        self._reference = copy.deepcopy(self.network).requires_grad_(False)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Evaluate with the reference weights, without gradients."""
        self._evaluating = self._reference
        try:
            with torch.no_grad():
                yield
        finally:
            self._evaluating = self.network

    # --- files

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the trainable parameters with their names."""
        return ((name, p) for name, p in self.network.named_parameters() if p.requires_grad)

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
        """Load a policy that ``save_pretrained`` wrote; the environment must have the same shape.

        Raises:
            ReasonEnvsError: the folder holds another kind of policy, or the weights do not fit the environment.
        """
        if not (folder / CONFIG_FILE).is_file():
            raise ReasonEnvsError(f"{folder} is not the folder of a {cls.kind} policy: {CONFIG_FILE} is missing.")
        options = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["options"]
        policy = cls(cls.config_class(**options, device=device), environment=environment)
        policy.load_state_tensors(load_file(folder / WEIGHTS_FILE))
        return policy
