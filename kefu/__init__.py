"""Kefu: a customer-service assistant platform on Rasa Open Source.

A message moves one way: gateway (receive), Kafka (queue), worker (understand and decide),
actions (act), Redis and gateway (answer), Kafka (observe). See README.md for the picture.
"""
