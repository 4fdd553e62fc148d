"""One message seen through, as decision record 3 numbers it: marker, turn, write, publishing, dead letters."""
