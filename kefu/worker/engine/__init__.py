"""Rasa's engine, made fast: its processor, policies, states and tracker, and NLU for all texts of a poll at once.

May import `act`, `conversation`, `start` and the shared modules `kefu/*.py`.
"""
