"""What happened on this cluster, for whoever subscribed: the in-process bus."""

from cluster_agent.events.bus import EventBus, Subscription

__all__ = ["EventBus", "Subscription"]
