"""Runs the assistant's actions, calls the action server, and chooses the wording of responses.

May import `conversation` and the shared modules `kefu/*.py`.
"""
