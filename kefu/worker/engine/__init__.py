"""Runs Rasa for one unit of work, and makes it fast: processor, policies, states, tracker, NLU over a whole poll.

May import `act`, `conversation`, `start` and the shared modules `kefu/*.py`.
"""
