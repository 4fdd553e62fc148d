"""Understanding: text in, language, numbers and intent out, for a whole poll at once.

`text`, `language` and `numbers` are pure functions; `components` and `intents` put them into
Rasa's NLU pipeline (see config.yml).
"""
