"""`make bench`: stock Rasa and Kefu measured in one run, on one machine, by the same conversations."""
