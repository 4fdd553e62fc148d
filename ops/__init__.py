"""What runs Kefu: its requirements, and the means to run all of it on one machine."""
