"""Processes one message by the steps of decision record 3: marker, turn, write, publishing, or a dead letter.

May import `turns`, `engine`, `release`, `storage`, `act` (places and calls), `intake`, `conversation` and the shared
modules `kefu/*.py`.
"""
