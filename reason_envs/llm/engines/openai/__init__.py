"""The engine that calls a server with OpenAI's chat completions interface.

Transport with retries, and the reading of responses.
May import `reason_envs.llm`; never another engine.
"""
