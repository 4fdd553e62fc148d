"""Redis as the one store of conversations, and what brings a Redis back that lost writes. Imports no Rasa."""
