"""RECEIVE and ANSWER: the only process that customers reach. It runs in N replicas; to accept, it needs Kafka only."""
