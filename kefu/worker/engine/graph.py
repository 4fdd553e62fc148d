"""Runs a model's graph: the order of its nodes is resolved once, not for each message."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from rasa.engine.graph import ExecutionContext, GraphNodeHook, GraphSchema
from rasa.engine.runner.dask import DaskGraphRunner
from rasa.engine.runner.interface import GraphRunner
from rasa.engine.storage.storage import ModelStorage


class _Step(NamedTuple):
    """One node of the graph: its function and component, and the arguments as (parameter, name of the value)."""

    name: str
    function: Callable[..., Any]
    component: Any
    arguments: Tuple[Tuple[str, str], ...]


class DirectGraphRunner(GraphRunner):
    """Runs a loaded model's graph without a scheduler. Source: rasa 3.6.21, `DaskGraphRunner`."""

    def __init__(self, loaded: DaskGraphRunner) -> None:
        """Create a runner of the components that Rasa has loaded."""
        self._schema: GraphSchema = loaded._graph_schema
        self._nodes = loaded._instantiated_nodes
        self._components = {name: node._component for name, node in self._nodes.items()}
        self._plans: Dict[Tuple[str, ...], List[_Step]] = {}

    @classmethod
    def create(
        cls,
        graph_schema: GraphSchema,
        model_storage: ModelStorage,
        execution_context: ExecutionContext,
        hooks: Optional[List[GraphNodeHook]] = None,
    ) -> "DirectGraphRunner":
        """Return a runner of a model's components, which are loaded as in Rasa."""
        return cls(DaskGraphRunner.create(graph_schema, model_storage, execution_context, hooks))

    @property
    def components(self) -> Dict[str, Any]:
        """The loaded component of each node."""
        return dict(self._components)

    def replace(self, node: str, component: Any) -> None:
        """Replace a node's component by another one with the same method."""
        self._components[node] = component
        self._plans.clear()

    def run(self, inputs: Optional[Dict[str, Any]] = None, targets: Optional[List[str]] = None) -> Dict[str, Any]:
        """Return the value of each target. Blocks for as long as the components do."""
        wanted = tuple(targets or self._schema.target_names)
        values = dict(inputs or {})
        plan = self._plans.get(wanted)
        if plan is None:
            plan = self._plans[wanted] = self._plan(wanted, values)
        for step in plan:
            arguments = {parameter: values[name] for parameter, name in step.arguments}
            values[step.name] = step.function(step.component, **arguments)
        return {target: values[target] for target in wanted}

    def _plan(self, targets: Tuple[str, ...], inputs: Dict[str, Any]) -> List[_Step]:
        """Return the nodes that the targets need, each after the nodes whose values it takes."""
        plan: Dict[str, _Step] = {}

        def visit(name: str) -> None:
            if name in plan or name in inputs:
                return
            node = self._nodes[name]
            for needed in node._inputs.values():
                visit(needed)
            component = self._components[name]
            function = getattr(type(component), node._fn_name)
            plan[name] = _Step(name, function, component, tuple(node._inputs.items()))

        for target in targets:
            visit(target)
        return list(plan.values())
