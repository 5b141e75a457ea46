"""Whether objects make sense, each alone and all together, once the loader has found them well formed.

Every check yields problems with their places and never raises. Warnings are asked for apart: they keep nothing from
being applied.
"""

from topology.checks import check_topology, topology_warnings
from workflow.checks.data import check_given_data
from workflow.checks.documents import check_documents, document_warnings
from workflow.checks.step import check_step, step_warnings
from workflow.checks.workflow import check_workflow, workflow_warnings

__all__ = [
    "check_documents",
    "check_given_data",
    "check_step",
    "check_topology",
    "check_workflow",
    "document_warnings",
    "step_warnings",
    "topology_warnings",
    "workflow_warnings",
]
