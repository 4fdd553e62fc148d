"""`make chaos`: the whole system under load while its parts are killed at random; then everything is counted."""
