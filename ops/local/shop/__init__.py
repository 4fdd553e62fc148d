"""The demo company's order system: what the action server asks. Kefu itself never reads its tables."""
