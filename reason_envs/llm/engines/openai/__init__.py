"""The engine for servers with OpenAI's chat completions interface.

Requests with retries, and the parsing of responses.
May import `reason_envs.llm`; never another engine.
"""
