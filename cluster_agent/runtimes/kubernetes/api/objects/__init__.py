"""The few kinds of Kubernetes objects that are used, and of each what is used.

The structs are decoded straight from the server's JSON: unknown fields are passed over, absent ones have a default.
What is sent is written as plain mappings by whoever sends it, because server-side apply owns exactly the fields
that are written.
"""
