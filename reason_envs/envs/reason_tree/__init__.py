"""ReasonTree-v0: a search tree of reasoning steps, grown by a language model and scored by a step reward model.

The tree, its growth, its observation and its renderings have one file each.
May import the same parts as `reason_envs.envs`; never another environment family.
"""
