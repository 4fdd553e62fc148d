"""From a request to an accepted message: requests, tokens, limits, backlog, acceptance."""
