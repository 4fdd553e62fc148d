"""RECEIVE, for the person's side of a hand-over: `/v1/desk/`, for who holds a token of the desk."""
