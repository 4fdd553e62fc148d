"""`make chaos`: runs the whole system under load, kills its parts at random, then checks every promise."""
