"""The engine on vLLM.

Options, the engine's process, and the worker that takes new weights.
May import `reason_envs.llm`; never another engine.
"""
