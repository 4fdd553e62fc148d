"""Finds a conversation's messages, reminders and hand-over in its events, and defines the form in which it is stored.

Nothing here reads a clock or a store. May import the shared modules `kefu/*.py` and no other room.
"""
