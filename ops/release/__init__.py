"""Releases new code or a new model beside the one that serves: `python -m ops.release`. Why so: decision 21."""
