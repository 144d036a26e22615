"""Training of step reward models: sample solutions, label their steps, fine-tune a classifier and write its card.

``python -m agents.reward_model`` runs it. A training run can run it as its first phase.
May import the configuration and parts of environments, but not a trainer.
"""
