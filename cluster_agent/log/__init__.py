"""The coordinator's durable log: nothing is visible before it is in here."""
