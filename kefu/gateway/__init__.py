"""RECEIVE and ANSWER: the only process that customers reach, N replicas, accepting needs Kafka only."""
