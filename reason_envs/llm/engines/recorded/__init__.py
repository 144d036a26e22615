"""The engine that replays recorded generations, and records those of a live engine.

A record is a file of JSON lines, one per request.
May import `reason_envs.llm`; builds a live engine by name only.
"""
