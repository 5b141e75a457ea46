"""Trials: whole federations on virtual time, made of the production cores and drivers, under faults."""
