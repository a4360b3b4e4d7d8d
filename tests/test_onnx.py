"""wengert.onnx: files become networks that are trained and compiled; bad files are errors."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import wengert.onnx  # noqa: E402
from wengert.onnx import Network, UnsupportedError  # noqa: E402


def model(nodes, inputs, outputs, /, **weights):
    """One graph; inputs and outputs are names with shapes, of float32."""
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in given.items()]
        for given in (inputs, outputs)
    ]
    initial = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "net", *infos, initializer=initial)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


@pytest.fixture
def perceptron(tmp_path):
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = (rng.normal(size=s).astype("float32") for s in ((4, 6), (6,), (3, 6), (3,)))
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b1"], ["b"]),
        helper.make_node("Tanh", ["b"], ["h"]),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], transB=1),
    ]
    made = model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, w1=w1, b1=b1, w2=w2, b2=b2)
    path = tmp_path / "net.onnx"
    onnx.save(made, path)
    return path, lambda x: np.tanh(x @ w1 + b1) @ w2.T + b2


def test_a_file_is_a_network(perceptron):
    path, expected = perceptron
    net = wengert.onnx.load(path)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    assert_close(net(wg.tensor(x)), expected(x), 1e-5, 1e-6)
    assert net.inputs == ["x"] and net.outputs == ["y"]
    assert sorted(n for n, _ in net.named_parameters()) == ["b1", "b2", "w1", "w2"]
    with pytest.raises(TypeError, match="got 2 inputs; expected 1: x"):
        net(x, x)
    with pytest.raises(wg.ShapeError, match=r"node 'first' \(MatMul\)"):
        net(wg.ones((5, 3)))


def test_it_trains_compiled_as_eager(perceptron):
    path, _ = perceptron
    x = wg.randn((8, 4), generator=wg.Generator(0))
    y = wg.tensor(np.arange(8) % 3)
    found = []
    for compiled in (False, True):
        net = wengert.onnx.load(path)
        optimizer = wg.optim.Adam(net.parameters(), lr=0.05)

        def step(net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = wg.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = wg.compile(step) if compiled else step
        found.append([run().item() for _ in range(20)])
    assert found[0] == found[1] and found[0][-1] < found[0][0] / 2


def test_shapes_are_computed_from_shapes():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    net = wengert.onnx.Network(model(nodes, {"x": [2, 3, 4]}, {"y": [2, 12]}))
    x = wg.randn((2, 3, 4))
    assert (net(x) == x.reshape(2, 12)).all()


def test_branches_and_loops():
    def branch(name, op):
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [out])

    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("p", "Exp"), else_branch=branch("q", "Neg")
    )
    less = helper.make_node("Less", ["s", "limit"], ["c"])
    total = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    net = wengert.onnx.Network(
        model([total, less, node], {"x": [2]}, {"y": [2]}, limit=np.float32(0))
    )
    assert_close(net(wg.tensor([-1.0, 0.5])), np.exp(np.float32([-1.0, 0.5])), 1e-6, 1e-6)
    assert net(wg.tensor([1.0, 0.5])).tolist() == [-1.0, -0.5]


def test_what_there_is_no_op_for_is_named():
    node = helper.make_node("NonMaxSuppression", ["x", "x"], ["y"], name="boxes")
    with pytest.raises(UnsupportedError, match="node 'boxes' is a NonMaxSuppression"):
        wengert.onnx.Network(model([node], {"x": [1]}, {"y": [1]}))
    other = helper.make_node("Relu", ["x"], ["y"], domain="com.other", name="theirs")
    with pytest.raises(UnsupportedError, match=r"node 'theirs' is a com.other.Relu"):
        wengert.onnx.Network(model([other], {"x": [1]}, {"y": [1]}))


def test_external_data_outside_the_directory_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(4, "float32").tobytes())
    inside = tmp_path / "inside"
    inside.mkdir()
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": [4]},
        {"y": [4]},
        w=np.zeros(4, "float32"),
    )
    w = made.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "16")):
        w.external_data.add(key=key, value=value)
    (inside / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match=r"net\.onnx is not a valid model"):
        wengert.onnx.load(inside / "net.onnx")


MUTATIONS = int(os.environ.get("WENGERT_MUTATIONS", "300"))


def test_damaged_files_are_errors(perceptron, tmp_path):
    """WENGERT_MUTATIONS=10000 for more of them."""
    path, _ = perceptron
    whole = path.read_bytes()
    draw = random.Random(0)
    for n in range(MUTATIONS):
        bad = bytearray(whole)
        if n % 3 == 0:
            del bad[draw.randrange(len(bad)) :]
        else:
            for _ in range(draw.randint(1, 8)):
                bad[draw.randrange(len(bad))] = draw.randrange(256)
        damaged = tmp_path / "bad.onnx"
        damaged.write_bytes(bad)
        try:  # weights may differ, and nothing else
            wengert.onnx.load(damaged)(wg.ones((1, 4)))
        except (ValueError, TypeError, IndexError) as error:
            assert str(error)
    with pytest.raises(FileNotFoundError):
        wengert.onnx.load(Path("nowhere.onnx"))


def test_hostile_fields_are_errors(perceptron, tmp_path):
    """Files that parse: one field of one message is another number, text or list."""
    path, _ = perceptron
    draw = random.Random(1)
    numbers = [-(2**31), -1, 0, 1, 2, 7, 2**31 - 1]
    for _ in range(MUTATIONS):
        made = onnx.load(str(path))
        graph = made.graph
        node, weight = draw.choice(graph.node), draw.choice(graph.initializer)
        kind = draw.randrange(8)
        if kind == 0:
            node.op_type = draw.choice([*wengert.onnx.ops.TABLE, "If", "Loop", "Scan"])
        elif kind == 1:
            node.input[draw.randrange(len(node.input))] = draw.choice(
                ["", "x", "a", "w1", "y", "no"]
            )
        elif kind == 2:
            weight.dims[0] = draw.choice([*numbers, 2**62])
        elif kind == 3:
            weight.data_type = draw.randrange(25)
        elif kind == 4:
            weight.raw_data = weight.raw_data[: draw.randrange(20)]
        elif kind == 5:
            value = draw.choice([draw.choice(numbers), 0.5, "a", [1, 2], np.zeros(2)])
            if isinstance(value, np.ndarray):
                value = numpy_helper.from_array(value)
            name = draw.choice(["transB", "axis", "alpha", "axes", "to", "value", "body"])
            node.attribute.append(helper.make_attribute(name, value))
        elif kind == 6:
            made.opset_import[0].version = draw.choice([*numbers, 6, 12, 22])
        else:
            del graph.node[draw.randrange(len(graph.node))]
        try:
            Network(made)(wg.ones((1, 4)))
        except (ValueError, TypeError, IndexError) as error:
            assert str(error)


OPTIONS = {
    "Conv": ["kernel_shape", "strides", "pads", "dilations", "group", "auto_pad"],
    "ConvTranspose": ["strides", "pads", "dilations", "group", "auto_pad", "output_padding",
                      "output_shape"],
    "MaxPool": ["kernel_shape", "strides", "pads", "dilations", "ceil_mode", "auto_pad"],
    "AveragePool": ["kernel_shape", "strides", "pads", "dilations", "ceil_mode", "auto_pad"],
    "LpPool": ["kernel_shape", "strides", "pads", "p"],
    "Resize": ["axes", "mode", "antialias", "nearest_mode", "coordinate_transformation_mode"],
    "Pad": ["mode"], "DepthToSpace": ["blocksize", "mode"], "SpaceToDepth": ["blocksize", "mode"],
    "LRN": ["size"], "GroupNormalization": ["num_groups"],
}  # fmt: skip
ONE = {"group", "ceil_mode", "p", "antialias", "blocksize", "size", "num_groups"}
WORDS = ["SAME_UPPER", "VALID", "CRD", "reflect", "edge", "cubic", "floor", "asymmetric", "no"]


def test_hostile_options_of_images_are_errors():
    """Nodes with sizes that are none, or that no memory holds: an error that names the node, and
    nothing that loops over them."""
    draw = random.Random(2)
    numbers = [-(2**62), -3, -1, 0, 1, 1, 1, 2, 2, 3, 7, 2**40, 2**62, 2**63 - 1]
    floats = [0.0, 1.0, 2.0, -1.0, 1e30, math.nan, math.inf]
    x, right = wg.ones((1, 4, 6, 5)), 0

    def some(values, counts=(1, 2, 2, 2, 4, 4)):
        return [draw.choice(values) for _ in range(draw.choice(counts))]

    for _ in range(MUTATIONS):
        op = draw.choice(list(OPTIONS))
        given, options = {}, {}
        for name in draw.sample(OPTIONS[op], draw.randint(0, len(OPTIONS[op]))):
            kind = numbers if draw.random() < 0.5 else [0, 1, 1, 2]
            word = name.endswith(("mode", "auto_pad")) and name != "ceil_mode"
            options[name] = (
                draw.choice(WORDS if word else kind) if word or name in ONE else some(kind)
            )
        if op.startswith("Conv"):
            shape = [draw.choice([1, 2, 4]), draw.choice([1, 2, 4]), *draw.choices([1, 2, 3], k=2)]
            given["w"] = np.ones(shape, "float32")
        elif op == "Pad":
            given["w"] = np.array(some(numbers, (8,)))
        elif op == "GroupNormalization":
            given["w"] = given["b"] = np.ones(4, "float32")
        elif op == "Resize":
            given["scales"] = np.array(some(floats, (0, 4)), "float32")
            given["sizes"] = np.array(some(numbers, (4,)))
        names = ["x", "", "scales", "sizes"] if op == "Resize" else ["x", *given]
        if op == "Resize" and given["scales"].size:
            names.pop()
        node = helper.make_node(op, names, ["y"], name="n", **options)
        made = model([node], {"x": None}, {"y": None}, **given)
        try:
            assert Network(made)(x).ndim
            right += 1
        except (ValueError, TypeError, IndexError, MemoryError) as error:
            assert "onnx: node 'n'" in str(error)
    assert 0 < right < MUTATIONS


def test_weights_of_any_name_keep_their_values():
    node = helper.make_node("Add", ["x", "inputs"], ["y"])
    net = wengert.onnx.Network(
        model([node], {"x": [2]}, {"y": [2]}, inputs=np.array([1, 2], "float32"))
    )
    assert net(wg.zeros((2,))).tolist() == [1, 2] and net.inputs == ["x"]


def function(name, calls):
    node = helper.make_node(calls, ["a"], ["b"], domain="own" if calls == name else "")
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], [node], opset)


def test_functions_that_a_file_brings_along():
    made = model([helper.make_node("Twice", ["x"], ["y"], domain="own")], {"x": [1]}, {"y": [1]})
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.functions.append(function("Twice", "Exp"))
    assert wengert.onnx.Network(made)(wg.zeros((1,))).tolist() == [1.0]
    made.functions[0].CopyFrom(function("Twice", "Twice"))
    with pytest.raises(ValueError, match="the function Twice calls itself"):
        wengert.onnx.Network(made)


def test_options_that_would_change_the_answer_are_refused():
    given = {n: np.ones(2, "float32") for n in ("s", "b", "m", "v")}
    node = helper.make_node("BatchNormalization", ["x", *given], ["y"], spatial=0)
    net = wengert.onnx.Network(model([node], {"x": [1, 2]}, {"y": [1, 2]}, **given))
    with pytest.raises(UnsupportedError, match="spatial=0"):
        net(wg.ones((1, 2)))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Exp", ["w"], ["e"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("e", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["n", ""], ["y"], body=body)
    weights = {"w": np.zeros(1, "float32"), "n": np.array(2, "int64")}
    net = wengert.onnx.Network(model([loop], {}, {"y": [2, 1]}, **weights))
    assert net().tolist() == [[1.0], [1.0]]
    weights["n"] = np.array(0, "int64")
    with pytest.raises(UnsupportedError, match="a Loop that ran no times"):
        wengert.onnx.Network(model([loop], {}, {"y": [0, 1]}, **weights))()


def test_powers_of_whole_numbers_keep_their_digits():
    net = wengert.onnx.Network(
        model(
            [helper.make_node("Pow", ["x", "two"], ["y"])],
            {"x": [1]},
            {"y": [1]},
            two=np.array(2, "int32"),
        )
    )
    assert net(wg.tensor([2**30 + 1])).tolist() == [(2**30 + 1) ** 2]


SPACE = {
    *("Conv", "ConvTranspose", "ConvInteger", "MaxPool", "MaxUnpool", "AveragePool", "LpPool"),
    *("Resize", "Upsample"),
}


def test_onnxs_own_cases_of_convolution_pools_and_resizing():
    from onnx.backend.test.loader import load_model_tests

    ran = set()
    for case in load_model_tests(kind="node"):
        ops = {node.op_type for node in case.model.graph.node}
        if not ops <= SPACE:
            continue
        prepared = wengert.onnx.Backend.prepare(case.model)
        for inputs, outputs in case.data_sets:
            for y, expected in zip(prepared.run(inputs), outputs, strict=True):
                assert y.dtype == expected.dtype and y.shape == expected.shape, case.name
                np.testing.assert_allclose(y, expected, 1e-3, 1e-6, err_msg=case.name)
        ran |= ops
    assert ran == SPACE


def test_windows_that_do_not_fit_are_errors():
    w = np.ones((2, 3, 3, 3), "float32")
    for options, says in [
        ({"strides": [0, 1]}, r"node 'c' \(Conv\): strides=\[0, 1\]: too small"),
        ({"pads": [1, 1]}, r"pads=\[1, 1\], and x has 2 axes of space"),
        ({"pads": [-1, 0, 0, 0]}, "too small"),
        ({"auto_pad": "HALF"}, "auto_pad='HALF'"),
        ({"group": 2}, "groups"),
    ]:
        node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", **options)
        net = wengert.onnx.Network(model([node], {"x": [1, 3, 5, 5]}, {"y": [1, 2, 3, 3]}, w=w))
        with pytest.raises(ValueError, match=says):
            net(wg.ones((1, 3, 5, 5)))


def test_batch_norms_are_folded():
    """Where a norm alone reads a convolution whose weights are its own; values stay."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4),
               "t": rng.normal(size=(4, 3, 2, 2)), "v": rng.normal(size=(6, 6, 1, 1)),
               "u": rng.normal(size=(6, 6, 1, 1))}  # fmt: skip
    for norm, channels in (("p", 4), ("q", 6), ("r", 6), ("s", 6)):
        for what in ("scale", "shift", "mean", "var"):
            weights[f"{norm}_{what}"] = rng.uniform(0.5, 2, channels)
    weights = {name: value.astype("float32") for name, value in weights.items()}

    def norm(name, x, y):
        return helper.make_node(
            "BatchNormalization",
            [x, *(f"{name}_{what}" for what in ("scale", "shift", "mean", "var"))],
            [y],
            epsilon=0.01,
        )

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 0, 1, 0]),
        norm("p", "c", "d"),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("ConvTranspose", ["e", "t"], ["f"], group=2, strides=[2, 2]),
        norm("q", "f", "g"),
        helper.make_node("Conv", ["g", "v"], ["h"]),
        norm("r", "h", "i"),
        helper.make_node("Conv", ["i", "u"], ["j"]),
        norm("s", "j", "k"),
        helper.make_node("Add", ["k", "j"], ["y"]),  # another reader
    ]  # fmt: skip
    net = Network(model(nodes, {"x": [2, 3, 6, 6]}, {"y": None}, **weights))
    x = rng.normal(size=(2, 3, 6, 6)).astype("float32")
    expected = net(x).detach().numpy()
    folded = net.fold_batch_norms()
    off = np.abs(folded(x).detach().numpy() - expected).max() / np.abs(expected).max()
    assert off < 2e-6
    assert [n.op for n in folded._graph.nodes].count("BatchNormalization") == 1
    assert {n for n, _ in folded.named_parameters()} == {
        "w", "p_shift", "t", "q_shift", "v", "r_shift", "u",
        *(f"s_{what}" for what in ("scale", "shift", "mean", "var")),
    }  # fmt: skip
    np.testing.assert_array_equal(net(x).detach().numpy(), expected)
    assert len(net._graph.nodes) == 10


def test_weights_in_constant_nodes_are_parameters():
    """As Paddle's exporter writes them; scales of Resize are none."""
    rng = np.random.default_rng(0)
    w, scales = rng.normal(size=(4, 3, 1, 1)).astype("float32"), np.array([1, 1, 2, 2], "float32")
    nodes = [
        helper.make_node("Constant", [], ["conv.w_0"], value=numpy_helper.from_array(w)),
        helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(scales)),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2]))),
        helper.make_node("Conv", ["x", "conv.w_0"], ["a"]),
        helper.make_node("Resize", ["a", "", "s"], ["b"]),
        helper.make_node("Mul", ["b", "two"], ["y"]),
    ]
    net = Network(model(nodes, {"x": [1, 3, 2, 2]}, {"y": [1, 4, 4, 4]}))
    assert [n for n, _ in net.named_parameters()] == ["conv_w_0"]
    x = rng.normal(size=(1, 3, 2, 2)).astype("float32")
    expected = 2 * np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]).repeat(2, 2).repeat(2, 3)
    y = net(x)
    np.testing.assert_allclose(y.detach().numpy(), expected, 1e-5, 1e-5)
    y.sum().backward()
    assert net.conv_w_0.grad is not None
