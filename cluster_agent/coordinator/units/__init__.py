"""The bytes of units on this cluster: how they come to a node, how long they stay, what becomes of lost ones."""
