"""Entry point of ``python -m agents.reward_model``."""

from agents.reward_model.train import main

main()
