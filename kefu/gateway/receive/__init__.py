"""RECEIVE: checks a request's token, limits and content, and accepts its message into Kafka."""
