"""The Python client: what a program needs to submit runs and follow them."""
