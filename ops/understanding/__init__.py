"""Measures how well the model understands, on held-out phrases and by cross-validation, for the model card."""
