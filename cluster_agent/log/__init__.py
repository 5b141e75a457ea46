"""The coordinator's durable log: nothing is visible before it is in here."""

from cluster_agent.log.batch import Batch, Position, Sent
from cluster_agent.log.errors import LogBusyError, LogError, LogFullError, SchemaTooNewError
from cluster_agent.log.store import CoordinatorLog

__all__ = [
    "Batch",
    "CoordinatorLog",
    "LogBusyError",
    "LogError",
    "LogFullError",
    "Position",
    "SchemaTooNewError",
    "Sent",
]
