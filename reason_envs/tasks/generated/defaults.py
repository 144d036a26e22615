"""Default sizes of generated problems, where they are not reasoning-gym's own."""

from __future__ import annotations

FAMILY_DEFAULTS: dict[str, dict[str, int]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 2},
}
"""Options by reasoning-gym dataset, sized for the embedded model, which was trained on exactly these sums."""
