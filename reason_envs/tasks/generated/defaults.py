"""Defaults of generated families that differ from those of reasoning-gym."""

FAMILY_DEFAULTS: dict[str, dict[str, int]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2},
}
"""Options by dataset of reasoning-gym. The embedded model was trained on sums of this size."""
