"""Files of torch.save: what comes back is what was saved, nothing in them is executed, and damaged
ones are errors before memory is taken."""

from __future__ import annotations

import io
import os
import pickle
import random
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.io import FileError

torch = pytest.importorskip("torch")

KINDS = [
    (torch.float32, "float32"), (torch.float64, "float64"), (torch.float16, "float32"),
    (torch.bfloat16, "bfloat16"), (torch.int64, "int64"), (torch.int32, "int32"),
    (torch.int16, "int32"), (torch.int8, "int32"), (torch.uint8, "uint8"), (torch.bool, "bool"),
]  # fmt: skip
UNTYPED = [
    (torch.uint16, "int32"), (torch.uint32, "int64"), (torch.uint64, "int64"),
    (torch.float8_e5m2, "float32"), (torch.float8_e4m3fn, "float32"),
]  # fmt: skip


def saved(path, value, legacy=False):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def same(ours, theirs):
    wide = theirs.detach().to(getattr(torch, ours.dtype.name)).to(torch.float64)
    assert ours.shape == tuple(theirs.shape)
    assert ours.double().tolist() == wide.tolist()


@pytest.fixture(params=["archive", "legacy"])
def legacy(request):
    return request.param == "legacy"


@pytest.mark.smoke
def test_every_dtype(tmp_path, legacy):
    values = {
        str(kind): torch.tensor([[0, 1, 3], [2, 1, 0]]).to(kind)
        for kind, _ in KINDS + ([] if legacy else UNTYPED)
    }
    values["beyond"] = torch.tensor([-(2**63), 2**63 - 1])
    values["specials"] = torch.tensor([float("inf"), -0.0, 1e-45])
    found = wg.load(saved(tmp_path / "a.pt", values, legacy))
    assert list(found) == list(values)
    for (kind, ours), x in zip(KINDS + ([] if legacy else UNTYPED), found.values(), strict=False):
        assert x.dtype.name == ours, kind
    for name, x in found.items():
        same(x, values[name])
    assert np.signbit(found["specials"].numpy()[1])


def test_containers_and_numbers(tmp_path, legacy):
    value = {
        "epoch": 3, "big": 2**70, "negative": -5, "lr": 1e-3, "nan": None, "flag": True, 7: "seven",
        "name": "naïve λ", "long": "x" * 300,
        "list": [1, [2.5, "a"], (), (1,), (1, 2), (1, 2, 3, 4)],
        "nested": OrderedDict(a={"b": [torch.ones(2)]}), "size": torch.Size([2, 3]), "empty": {},
    }  # fmt: skip
    for protocol in (2, 3, 4, 5):
        torch.save(value, tmp_path / "a", pickle_protocol=protocol)
        found = wg.load(tmp_path / "a")
        same(found["nested"]["a"]["b"][0], torch.ones(2))
        found["nested"]["a"]["b"] = value["nested"]["a"]["b"]
        assert found == value and isinstance(found["nested"], OrderedDict)
    assert wg.load(saved(tmp_path / "a", 5, legacy)) == 5
    same(wg.load(saved(tmp_path / "a", torch.arange(3), legacy)), torch.arange(3))


def test_a_state_dict_goes_into_a_model(tmp_path, legacy):
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    ours = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    ours.load_state_dict(wg.load(saved(tmp_path / "net.pth", theirs.state_dict(), legacy)))
    x = torch.randn(5, 4)
    y = ours(wg.tensor(x.numpy())).detach().numpy()
    np.testing.assert_allclose(y, theirs(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    parameters = wg.load(saved(tmp_path / "p.pth", dict(theirs.named_parameters()), legacy))
    assert all(x.requires_grad and x.is_leaf for x in parameters.values())


def test_an_optimizers_state(tmp_path):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    value = {"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}
    found = wg.load(saved(tmp_path / "a.ckpt", value))
    assert found["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    same(found["optimizer"]["state"][0]["exp_avg"], optimizer.state[layer.weight]["exp_avg"])


def test_views_share_their_storage(tmp_path, legacy):
    base = torch.arange(24.0)
    value = {
        "base": base, "tied": base, "rows": base.view(4, 6), "turned": base.view(4, 6).T,
        "strided": base.view(4, 6)[1:, ::2], "one": base[5], "expanded": base[:4].expand(1000, 4),
        "overlap": base.unfold(0, 5, 2), "none": base[:0].view(0, 3),
        "half": torch.arange(6).half().view(2, 3).T,
    }  # fmt: skip
    found = wg.load(saved(tmp_path / "a.pt", value, legacy))
    for name, x in found.items():
        same(x, value[name])
    found["rows"][0, 5] = 100.0
    base[5] = 100.0
    for name, x in found.items():
        same(x, value[name])
    assert (tmp_path / "a.pt").stat().st_size < 5000  # as in the file, so here


class Caller:
    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Caller(os.mkdir, "wengert-was-called"), r"names 'posix\.mkdir'"),
        (Caller(eval, "1/0"), r"names '__builtin__\.eval'"),
        (torch.nn.Linear(2, 2), r"names 'torch\.nn\.modules\.linear\.Linear'"),
        ({"a": np.float64(3)}, r"names 'numpy\.\w+\.multiarray\.scalar'"),
        ({1, 2}, r"names '__builtin__\.set'"),
        (torch.ones(2, dtype=torch.complex64), r"names 'torch\.ComplexFloatStorage'"),
        (torch.eye(3).to_sparse(), r"names 'torch\._utils\._rebuild_sparse_tensor'"),
        (OrderedDict, "holds collections.OrderedDict as a value"),
        (torch.float8_e5m2, "holds torch.float8_e5m2 as a value"),
        ({(1, 2): 3}, "a key of type tuple"),
        (torch.zeros(1).expand([1] * 11), "a tensor has 11 axes"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, monkeypatch, legacy, value, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=f"a.pt: .*{says}"):
        wg.load(saved(tmp_path / "a.pt", value, legacy))
    assert not (tmp_path / "wengert-was-called").exists()


def test_opcodes_that_make_objects_are_refused_by_name(tmp_path):
    for code, name in [
        (b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00lsi.", "posix.system"),
        (b"\x80\x02(ios\nsystem\n.", "INST"),
        (b"\x80\x02(cos\nsystem\no.", "os.system"),
        (b"\x80\x02)\x81.", "NEWOBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pkey\n.", "PERSID"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "refers to 'a'"),
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "calls 'a'"),
        (b"\x80\x02]}b.", "of a list"),
        (b"\x80\x04\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
    ]:
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("archive/data.pkl", code)
        with pytest.raises(FileError, match=name):
            wg.load(tmp_path / "a.pt")


def altered(tmp_path, change, storage=b"\0" * 24, **options):
    """A file whose only tensor has these arguments: sizes (2, 3), strides (3, 1) if not changed."""

    class Storage:
        key = "0"

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            count = change.get("count", 6)
            return ("storage", torch.FloatStorage, "0", "cpu", count) if value is Storage else None

    arguments = (
        Storage, change.get("offset", 0), change.get("shape", (2, 3)),
        change.get("strides", (3, 1)), False, OrderedDict(),
    )  # fmt: skip
    text = io.BytesIO()
    Pickler(text, 2).dump(Caller(torch._utils._rebuild_tensor_v2, *arguments))
    with zipfile.ZipFile(tmp_path / "a.pt", "w", **options) as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        archive.writestr("archive/byteorder", change.get("order", "little"))
        archive.writestr("archive/data/0", storage)
    return tmp_path / "a.pt"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": (2**58, 3)}, "beyond its storage of 6"),
        ({"shape": (2**62, 2**62), "strides": (0, 0)}, "more bytes than can be counted"),
        ({"shape": (2, 4)}, "beyond its storage"),
        ({"offset": 1}, "beyond its storage"),
        ({"strides": (2**62, 1)}, "beyond its storage"),
        ({"offset": 2**80}, "has the offset"),
        ({"offset": -1}, "has the offset"),
        ({"shape": (-1, 3)}, "has the shape"),
        ({"strides": (-3, 1)}, "has the strides"),
        ({"shape": (True, 3)}, "has the shape"),
        ({"shape": (6,)}, "1 axes and 2 strides"),
        ({"shape": [2, 3]}, "has the shape"),
        ({"count": 2**61}, "has 24 bytes: truncated"),
        ({"count": 7}, "has 24 bytes: truncated"),
        ({"count": -1}, "not a storage"),
        ({"order": "big"}, "big-endian"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(tmp_path, change, says):
    path = altered(tmp_path, change)
    tracemalloc.start()
    with pytest.raises(FileError, match=says):
        wg.load(path)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    assert wg.load(altered(tmp_path, {})).shape == (2, 3)
    assert wg.load(altered(tmp_path, {"shape": (0, 2**62)})).shape == (0, 2**62)


def test_compressed_and_overlapping_parts_are_refused(tmp_path):
    with pytest.raises(FileError, match="is compressed"):
        wg.load(altered(tmp_path, {}, compression=zipfile.ZIP_DEFLATED))
    damaged = altered(tmp_path, {}, storage=b"\1" * 24)
    data = bytearray(damaged.read_bytes())
    data[data.index(b"\1" * 24) + 5] = 2
    damaged.write_bytes(data)
    with pytest.raises(FileError, match=r"damaged.*CRC"):
        wg.load(damaged)


MUTATIONS = int(os.environ.get("WENGERT_MUTATIONS", "400"))


def test_mutated_files_never_crash(tmp_path, legacy):
    """WENGERT_MUTATIONS=10000 for more of them."""
    value = {
        "w": torch.arange(12.0).view(3, 4).T, "n": [1, "a"],
        "b": torch.ones(3, dtype=torch.bfloat16), "t": torch.tensor([True, False]),
        "i": torch.tensor([1, 2], dtype=torch.int8), "f": (1.5, None),
    }  # fmt: skip
    original = saved(tmp_path / "whole.pt", value, legacy).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "a.pt"
    loaded = 0
    for _ in range(MUTATIONS):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(len(data))
            kind = rng.randrange(5)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del data[at : at + rng.randrange(1, 20)]
            elif kind == 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            else:
                del data[at:]
                break
        path.write_bytes(data)
        try:
            found = wg.load(path)
            repr(found)
            loaded += 1
        except FileError as error:
            assert str(error).startswith(str(path))
    assert 0 < loaded < MUTATIONS


def test_mutated_pickles_never_crash(tmp_path):
    """The checksums of the archive are right here, so that the pickle's machine is reached."""
    source = zipfile.ZipFile(
        saved(tmp_path / "whole.pt", {"w": torch.arange(12.0).view(3, 4).T, "n": [1, "a", (2.5,)]})
    )
    text = source.read("whole/data.pkl")
    rng = random.Random(1)
    opcodes = [ord(c) for c in "(.012FGIJKLMNQRSTUVXabcdeghijlopqrstu})]"] + [*range(0x80, 0x99)]
    loaded = 0
    for _ in range(MUTATIONS):
        data = bytearray(text)
        for _ in range(rng.choice([1, 2, 4])):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.choice(opcodes)
            else:
                data[at:at] = bytes([rng.choice(opcodes)])
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("whole/data.pkl", data)
            archive.writestr("whole/data/0", source.read("whole/data/0"))
        try:
            repr(wg.load(tmp_path / "a.pt"))
            loaded += 1
        except FileError:
            pass
    assert 0 < loaded < MUTATIONS
