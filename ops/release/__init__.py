"""Releases new code or a new model beside the active one: `python -m ops.release`. Reasons: decision record 21."""
