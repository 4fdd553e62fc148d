"""UNDERSTAND AND DECIDE: what runs inside the Rasa server.

`server` starts Rasa, `channel` wires everything once Rasa has loaded its model, `intake` takes
messages from Kafka, `lanes` keeps each conversation in order, `inbox` sees one message through,
`turn` runs Rasa for it, `conversations` stores what came out in one atomic write.
"""
