"""The door for this cluster's node daemons: their messages become the core's events, its commands go to them."""
