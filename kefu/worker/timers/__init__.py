"""Reminders and idle time-outs that outlive the process. See ops/decisions/0004 for why they fire once.

`rules` tells from a conversation's events which timers stand, `turns` runs the turn of one that is
due, `index` remembers in Redis when to look, `scan` looks.
"""
