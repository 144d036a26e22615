"""ReasonTree-v0: a search tree of reasoning steps, grown by a language model and scored by a step reward model."""
