"""Reads from a conversation's events what it consists of: messages, reminders, hand-overs, its form in the store.

Nothing here has a clock or a store. May import the shared modules `kefu/*.py` and no other room.
"""
