"""From Redis to the customer: replies, transcripts, batched reads, hints and their connections."""
