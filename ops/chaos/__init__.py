"""`make chaos`: run the whole system under load, kill its parts at random, then check every promise."""
