"""Sets up, starts and stops Kefu's processes and their servers on one machine."""
