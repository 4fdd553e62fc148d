"""DECIDE, while a person has the conversation: the assistant is silent, the person speaks through the inbox.

What stands is told from the conversation's own events; see ops/decisions/0015.
"""
