"""Steps that are processes which stay and watch a directory, as images made for queues and shared volumes do."""
