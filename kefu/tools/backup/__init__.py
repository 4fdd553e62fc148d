"""Saves Kafka's topics into files and restores them into empty topics. All other data can be rebuilt from them."""
