"""Dead letters, for operators: list, show, replay, drop. See ops/decisions/0007."""
