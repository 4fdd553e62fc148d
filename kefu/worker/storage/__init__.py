"""Stores conversations in Redis, and repairs a Redis that lost writes.

May import `conversation/stored.py` and the shared modules `kefu/*.py`, and no Rasa: tests/worker/test_rooms.py checks
that.
"""
