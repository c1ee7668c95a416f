"""Ratings for tests of what is around them: the network of DNSMOS takes 0.7 s for each recording."""

import contextlib
import os
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from sottovoce.metrics.dnsmos import _session


@contextlib.contextmanager
def quick_dnsmos(folder):
    """Rate by mean, mean amplitude and largest sample, in this process and in those that it starts meanwhile."""
    weights = folder / "speechmos" / "dnsmos_models" / "sig_bak_ovr.onnx"
    weights.parent.mkdir(parents=True)
    (folder / "speechmos" / "__init__.py").touch()
    nodes = [
        helper.make_node("Abs", ["input_1"], ["amplitudes"]),
        helper.make_node("ReduceMean", ["input_1"], ["mean"]),
        helper.make_node("ReduceMean", ["amplitudes"], ["mean_amplitude"]),
        helper.make_node("ReduceMax", ["input_1"], ["largest"]),
        helper.make_node("Concat", ["mean", "mean_amplitude", "largest"], ["ratings"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [1, "samples"])]
    outputs = [helper.make_tensor_value_info("ratings", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "ratings", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "speechmos", raising=False)
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        _session.cache_clear()
        yield
    _session.cache_clear()
