"""Steps that are processes which stay and are spoken to: several tasks at a time, each in a slot."""
