"""UNDERSTAND AND DECIDE: the dialogue worker, which runs inside a Rasa server.

`server` starts Rasa. `channel` starts the worker once Rasa has loaded its model, and `worker` puts it together. Then
`intake` takes messages from Kafka and keeps each conversation in order, `inbox` processes one message, `turns` runs
Rasa for it, and `storage` stores the outcome in one atomic write. The files of this folder may import every room.
"""
