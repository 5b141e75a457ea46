"""The hubs that share an etcd: who lives, and what they tell each other."""
