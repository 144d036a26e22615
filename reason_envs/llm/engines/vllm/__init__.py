"""The engine on vLLM.

Options, the start of vLLM's processes, and the worker extension that receives new weights.
May import `reason_envs.llm`; never another engine.
"""
