"""Many agents that speak the true protocol and execute nothing, and what a hub makes of them."""
