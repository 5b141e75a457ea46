"""Steps and workflows as their authors write them.

The loader builds these models from documents, `workflow.checks` judges them together, `workflow.canonical` gives the
form that is stored, and the planner compiles a workflow with its steps into the graph of a run. Sizes are bytes,
durations seconds. Names follow the file, but where Python has the word for itself `in` is `inputs`, `from` is `source`,
and `as` is `form`.
"""

from workflow.model.edges import Batch, Binding, Pairing, Split, Store, WorkflowInput, WorkflowOutput
from workflow.model.names import ParameterType, Scalar, Value, plain_value
from workflow.model.quota import Quota
from workflow.model.step import (
    KINDS,
    Caching,
    Execution,
    Form,
    InputPort,
    Kind,
    OutputPort,
    Parameter,
    Pool,
    Resources,
    Retry,
    Step,
    StepMetadata,
    StepSpec,
    Timeout,
)
from workflow.model.workflow import Hook, Hooks, Items, Place, Policy, StepUse, Toleration, Workflow

__all__ = [
    "KINDS",
    "Batch",
    "Binding",
    "Caching",
    "Execution",
    "Form",
    "Hook",
    "Hooks",
    "InputPort",
    "Items",
    "Kind",
    "OutputPort",
    "Pairing",
    "Parameter",
    "ParameterType",
    "Place",
    "Policy",
    "Pool",
    "Quota",
    "Resources",
    "Retry",
    "Scalar",
    "Split",
    "Step",
    "StepMetadata",
    "StepSpec",
    "StepUse",
    "Store",
    "Timeout",
    "Toleration",
    "Value",
    "Workflow",
    "WorkflowInput",
    "WorkflowOutput",
    "plain_value",
]
