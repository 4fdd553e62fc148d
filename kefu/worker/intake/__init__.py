"""Takes messages from Kafka: polls, offsets, back pressure, lag, and the lanes that keep each conversation in order.

May import the shared modules `kefu/*.py` and no other room.
"""
