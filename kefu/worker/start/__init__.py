"""What a worker process needs to start lean and to stay small: deferred imports, the garbage collector."""
