"""Kafka's topics into files, and back into empty topics: what everything else can be built from again."""
