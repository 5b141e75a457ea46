"""Access: who calls, which roles they have where, what each call needs, and the log of who changed what."""
