"""`make bench`: measures stock Rasa and Kefu in one run, on one machine, with the same conversations."""
