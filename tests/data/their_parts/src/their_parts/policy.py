"""A policy: a softmax over a linear function of the observation, for environments with numbered actions.

python -m agents.train env=reason_tree algo=grpo policy=their_parts.policy:their_linear policy.scale=0.1
"""

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.spaces import flatdim, flatten
from safetensors.torch import save_file

from agents.policies.base import Evaluation, TrainablePolicy, sampling_temperatures
from agents.registry import POLICIES
from agents.trajectory import Choice
from reason_envs.llm.engine import Sampling
from reason_envs.llm.sampling import TokenSampler, uniforms


@dataclass
class LinearConfig:
    """Options of ``policy=their_linear``."""

    scale: float = 1.0
    """Factor that observations are multiplied by."""


class LinearPolicy(TrainablePolicy):
    """Starts with equal probabilities for all actions."""

    device = torch.device("cpu")
    sampling = Sampling(max_tokens=1)
    max_tokens = 1

    def __init__(self, config, *, seed, environment):
        agent = environment.agents[0]
        self.scale, self.space = config.scale, environment.observation_space(agent)
        self.layer = torch.nn.Linear(flatdim(self.space), int(environment.action_space(agent).n))
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def observe(self, environment, observation):
        return np.float32(self.scale * flatten(self.space, observation))

    async def act(self, observations, seeds, sampling=None, *, agents):
        sampling = sampling or self.sampling
        with torch.no_grad():
            logits = self.layer(torch.from_numpy(np.stack(observations)))
        draws = uniforms(np.array(seeds, np.uint64), np.zeros(len(seeds), np.uint64))
        actions, log_probs = TokenSampler([sampling] * len(seeds), self.device)(logits, draws)
        rows = zip(actions.tolist(), log_probs.tolist(), strict=True)
        return [Choice([action], [p], sampling, "stop", self.version, [], str(action)) for action, p in rows]

    def action(self, environment, choice):
        return choice.token_ids[0]

    def evaluate(self, decisions, *, entropy_gradient=False):
        logits = self.layer(torch.from_numpy(np.stack([d.observation for d in decisions])))
        log_probs = (logits / torch.tensor(sampling_temperatures(decisions))[:, None]).log_softmax(-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        actions = torch.tensor([d.choice.token_ids for d in decisions])
        return Evaluation(log_probs.gather(-1, actions), entropy, torch.ones_like(actions, dtype=torch.bool))

    def lengths(self, decisions):
        return [1] * len(decisions)

    def named_parameters(self):
        return self.layer.named_parameters()

    def save_pretrained(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_tensors(), folder / "model.safetensors")


POLICIES.register("their_linear", LinearPolicy, LinearConfig)
