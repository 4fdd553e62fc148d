"""From Kafka: polls, offsets, back pressure, lag, and the lanes that keep each conversation in order."""
