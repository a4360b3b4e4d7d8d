"""wengert.onnx.export: files that onnxruntime, where it is installed, and wengert.onnx.load read as
the function that was traced."""

from __future__ import annotations

import re

import numpy as np
import pytest
from rows import ROWS

import wengert as wg
from wengert import nn
from wengert.models.bert import BertConfig, BertForSequenceClassification
from wengert.models.convnet import ConvNet
from wengert.models.efficientnet_lite import EfficientNetLite

onnx = pytest.importorskip("onnx")
import wengert.onnx  # noqa: E402
from wengert.onnx import UnsupportedError, exporting  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None


def arrays(values):
    values = values if isinstance(values, (list, tuple)) else (values,)
    return [v.detach().numpy() for v in values]


def runtime(path, inputs):
    session = onnxruntime.InferenceSession(path)
    given = dict(zip((i.name for i in session.get_inputs()), arrays(inputs), strict=True))
    return session.run(None, given)


def check(f, inputs, path, rtol=1e-4, atol=1e-5, judge=True):
    """That both readers of the file give what f gives."""
    wengert.onnx.export(f, tuple(inputs), path)
    expected = arrays(f(*inputs))
    found = [arrays(wengert.onnx.load(path).run(inputs))]
    if onnxruntime and judge:
        found.append(runtime(path, inputs))
    for outputs in found:
        for y, e in zip(outputs, expected, strict=True):
            assert y.dtype == e.dtype and y.shape == e.shape
            np.testing.assert_allclose(y, e, rtol, atol)


# Ops whose text has a function that ONNX lacks, or that have a form for some options alone. Ops
# without text or form need not stand here.
WITHOUT = {
    *("atan2", "bitwise_left_shift", "bitwise_right_shift", "copysign", "erfinv", "hypot"),
    *("lgamma", "nextafter", "polygamma", "scatter", "floor_divide"),
}
# Empty inputs that onnxruntime refuses.
NOT_JUDGED = {"cross_entropy", "scatter index_add"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_op_or_its_name(row, tmp_path):
    path = str(tmp_path / "a.onnx")
    for shapes in row.shapes:
        drawn = [np.asarray(a) for a in row.draw(shapes)]
        inputs = [wg.tensor(a.astype("float32") if a.dtype == float else a) for a in drawn]
        judge = row.name not in NOT_JUDGED or all(a.size for a in drawn)
        try:
            check(row.call, inputs, path, judge=judge)
        except UnsupportedError as error:
            assert re.match(r"onnx\.export: line \d+, \w+ \(.*\): ", str(error), flags=re.S)
            with_form = {*exporting._FORMS, *exporting._DIRECT}
            with_form |= {op["name"] for op in wg.ops() if op["numpy"]}
            assert row.op in WITHOUT or row.op not in with_form
            assert not (tmp_path / "a.onnx").exists()


def test_values_at_the_edges(tmp_path):
    x = wg.tensor([-np.inf, -100.0, -1e-6, -0.0, 1e-7, 3.0, 100.0, np.inf, np.nan])
    small = wg.tensor([-0.5, -1e-6, 1e-7, 0.5, 2.0])
    for f in (wg.expm1, wg.log1p):
        check(f, [small], str(tmp_path / "a.onnx"), 1e-6, 0)
    for f in (wg.silu, wg.log1p, wg.expm1, wg.trunc, wg.sigmoid, wg.tanh):
        check(f, [x], str(tmp_path / "a.onnx"), 1e-5, 1e-7)


@pytest.mark.smoke
def test_a_perceptron_with_its_names(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).eval()
    path = tmp_path / "net.onnx"
    check(net, [wg.randn((5, 4))], str(path))
    wengert.onnx.export(net, wg.ones((5, 4)), path, input_names=["x"], output_names=["logits"])
    loaded = wengert.onnx.load(path)
    assert loaded.inputs == ["x"] and loaded.outputs == ["logits"]
    assert sum(p.size for p in loaded.parameters()) == sum(p.size for p in net.parameters())
    assert "test_onnx_export.py" in onnx.load(str(path)).graph.node[0].doc_string
    with pytest.raises(ValueError, match=r"input_names \['a', 'b'\]; expected 1"):
        wengert.onnx.export(net, wg.ones((5, 4)), path, input_names=["a", "b"])
    with pytest.raises(TypeError, match="got int; expected a module"):
        wengert.onnx.export(3, wg.ones((5, 4)), path)


def test_inputs_are_named_as_forward_has_them(tmp_path):
    def f(x, pair, scale, unused):
        return {"sum": x + pair[0] * scale, "same": x}, pair[1].T

    x, a, b, unused = (wg.randn((2, 3)) for _ in range(4))
    wengert.onnx.export(f, (x, [a, b], 3.0, unused), tmp_path / "f.onnx")
    net = wengert.onnx.load(tmp_path / "f.onnx")
    assert net.inputs == ["x", "pair0", "pair1", "unused"] and len(set(net.outputs)) == 3
    total, same, turned = net(x, a, b, unused)
    assert wg.allclose(total, x + a * 3.0) and (same == x).all() and (turned == b.T).all()


def test_transformers(tmp_path):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu").eval()
    check(nn.TransformerEncoder(layer, 2).eval(), [wg.randn((2, 7, 16))], str(tmp_path / "a.onnx"))
    bert = BertForSequenceClassification(
        BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                   intermediate_size=40, max_position_embeddings=16)
    ).eval()  # fmt: skip
    ids = wg.tensor(np.random.default_rng(0).integers(0, 50, (3, 11)))
    mask = wg.tensor((np.arange(11) < np.array([[11], [4], [7]])).astype("int64"))

    def f(ids, mask):
        return bert(ids, attention_mask=mask).logits

    check(f, [ids, mask], str(tmp_path / "bert.onnx"))


def test_convolutional_networks(tmp_path):
    path = str(tmp_path / "a.onnx")
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.Conv2d(8, 8, (3, 5), padding="same", groups=8, bias=False), nn.MaxPool2d(3, 2, 1),
        nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1), nn.SiLU(),
        nn.Upsample(scale_factor=2, mode="nearest"), nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip
    check(net, [wg.randn((2, 3, 17, 18))], path)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert {"Conv", "ConvTranspose", "MaxPool"} <= set(kinds)
    for layer, shape in [
        (nn.Conv1d(2, 3, 4, padding="same"), (1, 2, 9)),
        (nn.Conv3d(2, 3, 2, dilation=2), (1, 2, 5, 4, 6)),
        (nn.ConvTranspose1d(2, 3, 2, stride=3, dilation=2), (1, 2, 5)),
        (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 2, 8, 7)),
        (nn.MaxPool2d(2, 3), (1, 2, 7, 9)),
        (nn.BatchNorm2d(2, track_running_stats=False), (3, 2, 4, 5)),
    ]:
        check(layer, [wg.randn(shape)], path)
    for model, shape in ((ConvNet(width=8), (2, 1, 12, 12)), (EfficientNetLite(), (1, 3, 40, 40))):
        check(model.eval(), [wg.randn(shape)], path)


def test_recurrent_layers(tmp_path):
    for layer in (nn.LSTM(3, 5, num_layers=2), nn.GRU(3, 5, bidirectional=True)):
        check(lambda x, layer=layer: layer(x)[0], [wg.randn((4, 2, 3))], str(tmp_path / "a.onnx"))


def test_bfloat16(tmp_path):
    w = wg.randn((3, 2)).to("bfloat16")
    path = tmp_path / "a.onnx"
    wengert.onnx.export(lambda x: (x @ w).float(), wg.ones((4, 3), "bfloat16"), path)
    stored = onnx.load(str(path)).graph.initializer[0]
    assert stored.data_type == onnx.TensorProto.BFLOAT16 and len(stored.raw_data) == 12


def test_what_has_no_form_is_named_with_its_place(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_text("the old file")

    def edits(x):
        y = x * 2
        y[0] = 1.0
        return y

    for f, says in [
        (nn.Dropout(), r"uniform \(.*random numbers have no ONNX form; export model.eval"),
        (wg.erfinv, r"line 1, erfinv \(test_onnx_export.py:\d+: .*: there is no ONNX form"),
        (edits, r"\(test_onnx_export.py:\d+: y\[0\] = 1.0\): it writes into a tensor"),
    ]:
        with pytest.raises(UnsupportedError, match=says):
            wengert.onnx.export(f, wg.ones((3,)), path)
        assert path.read_text() == "the old file"
