"""Lets a worker process start fast and stay small, by deferred imports and a tuned garbage collector.

May import the shared modules `kefu/*.py` and no other room.
"""
