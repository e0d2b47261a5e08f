"""Decisions without clocks, sockets or storage: time and randomness come in as arguments."""
