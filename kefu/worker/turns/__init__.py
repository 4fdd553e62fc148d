"""Runs one turn in memory, within its deadline: of a customer's message, a timer or an event of the desk.

May import `engine`, `act`, `conversation` and the shared modules `kefu/*.py`; never `storage`, `intake` or `inbox`.
"""
