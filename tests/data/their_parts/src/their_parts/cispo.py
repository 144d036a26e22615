"""Another loss, CISPO (arXiv 2506.13585): python -m agents.train algo=their_parts.cispo:their_cispo algo.clip_low=1"""

from agents.algorithms.grpo import GRPO, GRPOConfig
from agents.algorithms.policy_loss import penalties
from agents.losses import aggregate
from agents.registry import ALGORITHMS


class CISPO(GRPO):
    """Clips the importance weight and stops its gradient, so that the log-probability of every token has a gradient."""

    def loss(self, inputs, config):
        ratio = (inputs.log_probs - inputs.old_log_probs).exp().detach()
        weights = inputs.correction * ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
        losses, (terms, metrics) = -weights * inputs.advantages * inputs.log_probs, penalties(inputs, config)
        return aggregate(losses, inputs.mask, config.aggregation, config.horizon, inputs.denominator) + terms, metrics


ALGORITHMS.register("their_cispo", CISPO, GRPOConfig)
