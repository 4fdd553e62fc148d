"""One turn in memory, within its deadline: of a message, of a timer, of the desk."""
