"""The in-process engine on Hugging Face transformers.

Batched sampling with addressed random numbers, key-value caches and grouped attention.
May import `reason_envs.llm`; never another engine.
"""
