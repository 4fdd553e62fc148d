"""ANSWER: reads replies and transcripts from Redis, in batches, and subscribes to the hints that say when to read."""
