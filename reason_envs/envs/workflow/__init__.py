"""WorkflowExecution-v0: a policy writes programs over operators that a language model answers for.

Checking, repair, interpretation and grading of a program are a file each.
May import the same parts as `reason_envs.envs`; never another environment family.
"""
