"""Environments that several roles play in turns (PettingLLMs, "Stronger Together", arXiv 2510.11062)."""
