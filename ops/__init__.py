"""The tools that run, measure, test and release Kefu, and its locked requirements."""
