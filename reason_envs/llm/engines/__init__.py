"""Engines, one folder or file each: transformers, vllm, openai and recorded.

Each implements `reason_envs.llm.engine.Engine` and is registered in `reason_envs.llm`.
Nothing here may import another engine.
"""
