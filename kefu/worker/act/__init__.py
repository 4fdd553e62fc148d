"""What the assistant does and says: actions, calls to the action server, responses."""
