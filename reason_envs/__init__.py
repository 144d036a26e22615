"""Gymnasium-style environments for reinforcement learning of LLM reasoning."""
