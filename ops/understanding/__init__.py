"""How well the model understands: measured on held-out phrases, told after a training and in the model card."""
