"""What a conversation is, read from its events, with no clock and no store."""
