"""Step reward models: sample solutions, label their steps, fine-tune a classifier and write its card.

`python -m agents.reward_model` runs it; a training run can run it as its first phase.
May import configuration and the environments' parts; never a trainer.
"""
