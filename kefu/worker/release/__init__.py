"""Releases: one track of workers reads the inbox, and the candidate track reads the messages that it is lent.

`plan` reads the chart's plan. `tracks` knows the living workers and which inbox this worker reads; `following` changes
the inbox accordingly. `relied` lists the parts of a model that conversations need. `command` is the operators' command.
The reasons are in ops/decisions/0021. May import `storage` and the shared modules `kefu/*.py`.
"""
