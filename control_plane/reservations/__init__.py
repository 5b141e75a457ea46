"""Runs that wait for their slots: which of them tries next, and what a try is."""
