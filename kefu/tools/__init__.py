"""The operators' commands: `python -m kefu NAME`. No process imports them."""
