"""WorkflowExecution-v0: a policy writes programs over operators, which a language model runs.

Checks, repairs, interpretation and grading of a program have one file each.
May import the same parts as `reason_envs.envs`; never another environment family.
"""
