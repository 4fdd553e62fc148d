"""Dead letters, for the people who run the system: list, show, replay, drop. See ops/decisions/0007."""
