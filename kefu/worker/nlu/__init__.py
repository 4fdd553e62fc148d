"""NLU: finds the language, the entities and the intent of customers' messages, for all messages of a poll at once.

`components`, `entities` and `intents` contain the components of Rasa's NLU pipeline (see config.yml). The other modules
are their parts. A trained model names its components by their modules, so they can't move to another folder.
"""
