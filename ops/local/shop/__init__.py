"""The demo company's order system, which the action server calls. Kefu itself never reads its tables."""
