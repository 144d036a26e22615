"""WorkflowExecution-v0: a policy writes programs over operators that a language model answers for."""
