"""Releases: two tracks of workers, one that reads the inbox and a candidate that reads what it is lent.

`plan` is what the chart says, `tracks` who is there and which inbox this worker reads, `following` keeps to
that and changes the inbox, `relied` tells what conversations need of a model, `command` asks and checks.
Why so: ops/decisions/0021.
"""
