"""A graph network as a policy: it reads the search tree and draws one action (a choice of one token)."""

from __future__ import annotations

import copy
import json
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
from agents.policies.graph_network import KEYS, GPSNetwork, GPSNetworkConfig, TreeShape, no_tree
from agents.trajectory import Choice, Decision
from reason_envs.batching import MicroBatcher
from reason_envs.core import AgentId, Environment, derive_seed
from reason_envs.errors import ReasonEnvsError
from reason_envs.llm.engine import Sampling
from reason_envs.llm.loading import resolve_device
from reason_envs.llm.sampling import TokenSampler, uniforms

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MAX_TREES = 512
"""Most trees of one forward pass while acting, so that memory does not grow with the number of episodes."""

Arrays = dict[str, np.ndarray]
"""A tree observation without padding."""


@dataclass
class GraphPolicyConfig(GPSNetworkConfig):
    """Options of ``policy=graph``."""

    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda:N``."""


@dataclass(frozen=True)
class _Request:
    observations: Sequence[Arrays]
    seeds: Sequence[int]
    sampling: Sampling


class GraphPolicy:
    """Draws actions from a GPS network's masked distribution and learns its weights.

    Args:
        config: options.
        seed: the run's seed; keys the first weights.
        environment: what it will act in: its observation space gives the network's shape, its ``action_names`` the
            choices' text.

    Raises:
        ReasonEnvsError: the environment shows no tree.
    """

    samples_elsewhere = False
    scales_loss = False
    max_tokens = 1

    def __init__(self, config: GraphPolicyConfig, *, seed: int = 0, environment: Environment) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.sampling = Sampling(max_tokens=1)
        self.shape = TreeShape.of(environment.observation_space(environment.agents[0]))
        tree: Any = environment
        self.action_names: tuple[str, ...] = tree.action_names
        self.version = 0
        """Of the weights, for the record of choices; whoever updates them sets it."""
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, "graph"))
            # Kept in training mode: it has no dropout, and attention's evaluation kernel rounds differently.
            self.network = GPSNetwork(self.shape, config).to(self.device)
        self._reference: nn.Module | None = None
        self._evaluating: nn.Module = self.network
        self.batcher = MicroBatcher(self._act, max_batch_size=MAX_TREES)

    # --- acting

    def observe(self, environment: Environment, observation: Any) -> Arrays:
        """Take the padding out of an observation, so that stored decisions are small."""
        if not isinstance(observation, Mapping) or any(key not in observation for key in KEYS):
            raise no_tree(f"an observation of type {type(observation).__name__}")
        nodes = int(observation["node_mask"].sum())
        sizes = {"nodes": nodes * self.shape.features, "parents": nodes, "depths": nodes, "node_mask": nodes}
        return {key: observation[key][: sizes.get(key)].copy() for key in KEYS}

    async def act(
        self,
        observations: Sequence[Arrays],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        agents: Sequence[AgentId] = (),
    ) -> list[Choice]:
        """Draw an action for each tree; ``sampling`` overrides the training parameters (temperature 0: the best)."""
        return await self.batcher(_Request(observations, seeds, sampling or self.sampling))

    @torch.no_grad()
    def _act(self, requests: list[_Request]) -> list[list[Choice]]:
        observations = [observation for request in requests for observation in request.observations]
        seeds = np.array([seed for request in requests for seed in request.seeds], np.uint64)
        samplings = [request.sampling for request in requests for _ in request.observations]
        logits, _ = self.network(collate(observations, self.device))
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

    def action(self, environment: Environment, choice: Choice) -> int:
        """Return the environment's action."""
        return choice.token_ids[0]

    # --- learning

    def evaluate(self, decisions: Sequence[Decision], *, entropy_gradient: bool = False) -> Evaluation:
        """Evaluate the stored actions and trees under the current weights (within ``reference()``: the frozen ones).

        Every tensor is [B, 1].
        """
        logits, values = self._evaluating(collate([d.observation for d in decisions], self.device))
        temperatures = torch.tensor(sampling_temperatures(decisions), device=self.device)
        log_probs = torch.log_softmax(logits / temperatures[:, None], dim=-1)
        chosen = torch.tensor([d.choice.token_ids for d in decisions], device=self.device)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        mask = torch.ones_like(chosen, dtype=torch.bool)
        return Evaluation(log_probs.gather(-1, chosen), entropy, mask, values[:, None])

    def lengths(self, decisions: Sequence[Decision]) -> list[int]:
        """Return the nodes of each decision's tree."""
        return [len(d.observation["node_mask"]) for d in decisions]

    def prepare_values(self) -> None:
        """Change nothing: the network always gives values."""

    def value_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the critic's parameters."""
        return self.network.critic.parameters()

    def moved(self, decision: Decision, observation: Any) -> Decision:
        """Return the decision as if it had been taken at another tree."""
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
                "environment that they were trained with (max_depth and the number of actions count)."
            )
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

    def save_pretrained(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        options = {f.name: getattr(self.config, f.name) for f in fields(GraphPolicyConfig) if f.name != "device"}
        text = json.dumps({"options": options, "shape": asdict(self.shape)}, indent=2)
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in self.state_tensors().items()}, folder / WEIGHTS_FILE
        )

    @classmethod
    def from_pretrained(cls, folder: Path, *, environment: Environment, device: str = "auto") -> Self:
        """Load what ``save_pretrained`` wrote, to act in an environment of the same shape."""
        if not (folder / CONFIG_FILE).is_file():
            raise ReasonEnvsError(f"{folder} holds no graph policy: it has no {CONFIG_FILE}.")
        options = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["options"]
        policy = cls(GraphPolicyConfig(**options, device=device), environment=environment)
        policy.load_state_tensors(load_file(folder / WEIGHTS_FILE))
        return policy


def collate(observations: Sequence[Arrays], device: torch.device) -> dict[str, Tensor]:
    """Stack trees of different sizes, padded to the largest: what the network reads."""
    counts = np.array([len(o["node_mask"]) for o in observations])
    mask = np.arange(counts.max()) < counts[:, None]

    def padded(key: str, empty: float = 0.0) -> np.ndarray:
        values = np.concatenate([o[key] for o in observations]).reshape(counts.sum(), -1)
        rows = np.full((*mask.shape, values.shape[-1]), empty, np.float32)
        rows[mask] = values
        return rows.reshape(len(rows), -1)

    arrays = {
        "nodes": padded("nodes"),
        "parents": padded("parents", empty=-1.0),
        "depths": padded("depths"),
        "node_mask": mask.astype(np.float32),
        "current": np.stack([o["current"] for o in observations]),
        "action_mask": np.stack([o["action_mask"] for o in observations]),
    }
    return {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
