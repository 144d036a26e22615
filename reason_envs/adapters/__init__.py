"""Our environments behind the interfaces people already know."""
