"""Rasa, entered for one unit of work and made quick: processor, policies, states, tracker, NLU over a poll."""
