"""What can be wrong with asking something of an agent."""

from __future__ import annotations


class AgentError(Exception):
    """Any of them; the message is meant for people."""


class AgentUnreachable(AgentError):
    """The agent can't be asked now, or went away while it answered."""


class NoSuchAgent(AgentError):
    """The agent was never seen."""


class AgentInUse(AgentError):
    """The agent is connected, or has a part in a run that goes on."""


class NoSuchCluster(AgentError):
    """No topology declares the cluster, and its agent was never seen."""


class WrongTaint(AgentError):
    """What is to be put on a cluster is no taint."""
