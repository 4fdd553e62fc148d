"""RECEIVE and ANSWER: the only process that customers reach.

It runs in several replicas. To accept a message it needs Kafka only, to return an answer it needs Redis.
"""
