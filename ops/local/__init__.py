"""Kefu on one machine: set up, run and tear down the services and what they need."""
