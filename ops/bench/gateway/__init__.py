"""What the gateway costs: CPU a message accepted, answered, streamed, and of connections that are idle."""
