"""From the graph that the exporter gives to that of a model file: equal values, less to do at a start and a frame."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from sottovoce.runtime import load_onnxruntime

# Operators that take a constant for all values of a tensor.
_ELEMENTWISE = frozenset(("Add", "Div", "Greater", "GreaterOrEqual", "LessOrEqual", "Max", "Mul", "Sub", "Where"))


def input_names(states: int) -> list[str]:
    """Names of the inputs of a network.

    Args:
        states: Number of its states.

    Returns:
        "spectra", then "past_0", "past_1", ...
    """
    return ["spectra", *(f"past_{index}" for index in range(states))]


def deployable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a graph for use.

    Args:
        model: What the exporter gave, with its weights.

    Returns:
        A graph of equal values, but for rounding: constants folded, inputs named as `input_names` says, shapes fixed
        but for batch and frames, cheap where frames come one by one, and without notes of where it was made.
    """
    rewritten = _with_cheap_frames(_with_fixed_shapes(_with_named_inputs(_simplified(model))))
    _forget_origin(rewritten)
    return rewritten


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its constants folded and its idle nodes gone: less to do at every start of a program."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    # Threads of its own choice are bound to cores that a container may not use, which it would report.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # This level keeps to operators of the standard; those above make graphs for one processor.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simplified = onnx.load(path)
    # Those of operators that the graph does not have, which another reader might not know.
    used = {node.domain for node in simplified.graph.node}
    kept = [opset for opset in simplified.opset_import if opset.domain in used]
    del simplified.opset_import[:]
    simplified.opset_import.extend(kept)
    return simplified


def _with_named_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with inputs of their own names: a state that stays as it is was left as one name for both ends."""
    graph = model.graph
    for value, name in zip(graph.input, input_names(len(graph.input) - 1), strict=True):
        output, value.name = value.name, name
        if output == name:
            continue
        for node in graph.node:
            node.input[:] = [name if given == output else given for given in node.input]
        graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
    return model


def _with_fixed_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what works out a shape that has one free size: -1 says the same and costs nothing."""
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    joined = {node.output[0]: node.input for node in graph.node if node.op_type == "Concat"}
    for node in graph.node:
        parts = joined.get(node.input[1]) if node.op_type == "Reshape" else None
        if parts is not None and sum(part not in constants for part in parts) == 1:
            shape = np.concatenate([constants.get(part, np.array([-1])) for part in parts])
            node.input[1] = f"{node.output[0]}_shape"
            graph.initializer.append(onnx.numpy_helper.from_array(shape.astype(np.int64), node.input[1]))
    _drop_idle(graph)
    return model


def _with_cheap_frames(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with operators that ONNX Runtime computes fast when frames come one by one.

    Its loop over a tensor whose last axis has one value calls a function for each value, unless the constant that
    meets the tensor has as many axes. Powers and the softplus are calls of the C library for each value, while
    logarithms and exponential functions are computed eight at a time.
    """
    graph = model.graph
    described = onnx.shape_inference.infer_shapes(model).graph
    axes = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*described.input, *described.value_info, *described.output)
    }
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], output: str) -> str:
        nodes.append(onnx.helper.make_node(operator, inputs, [output]))
        axes[output] = max(axes.get(name, 0) for name in inputs)
        return output

    def add_constant(value: NDArray[np.generic], name: str) -> str:
        if name not in constants:
            constants[name] = value
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    for node in graph.node:
        first, output = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "Cast" and first in constants:
            kind = onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            add_constant(constants[first].astype(kind), output)
        elif node.op_type == "Pow" and constants.get(node.input[1], np.zeros(2)).size == 1:
            # Networks take squares of what has a sign, and other powers of amplitudes alone, which are above 0.
            if constants[node.input[1]] == 2:
                add("Mul", [first, first], output)
            else:
                add(
                    "Exp",
                    [add("Mul", [add("Log", [first], f"{output}_log"), node.input[1]], f"{output}_power")],
                    output,
                )
        elif node.op_type == "Softplus":
            # The exporter takes the input itself where it is large.
            one = add_constant(np.array(1, np.float32), "one")
            add("Log", [add("Add", [add("Exp", [first], f"{output}_exp"), one], f"{output}_sum")], output)
        else:
            nodes.append(node)
    for node in nodes:
        if node.op_type in _ELEMENTWISE:
            rank = max(axes.get(name, 0) for name in node.input)
            for place, name in enumerate(node.input):
                if name in constants and constants[name].size == 1 and constants[name].ndim < rank:
                    node.input[place] = add_constant(constants[name].reshape((1,) * rank), f"{name}_of_{rank}_axes")
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_idle(graph)
    return model


def _drop_idle(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that lead to no output: a runtime computes such nodes, and warns of the constants."""
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # every node stands behind those that it takes from
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on every node: where in whose files it was called."""
    graph = model.graph
    parts = (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, *parts):
        del part.metadata_props[:]
        part.doc_string = ""
