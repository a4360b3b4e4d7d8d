"""io: files that come back the same, damaged files, processes killed while saving, safetensors."""

import gzip
import json
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest

import wengert as wg
from wengert import _numbers, io, nn, optim
from wengert.io import FileError


def sample():
    rng = np.random.default_rng(0)
    return {
        "layer.weight": wg.tensor(rng.standard_normal((3, 5)).astype(np.float32)),
        "b": wg.tensor(rng.standard_normal(4)),
        "i": wg.tensor(np.array([-(2**31), 2**31 - 1], np.int32)),
        "l": wg.tensor(np.array([[-(2**63)], [2**63 - 1]], np.int64)),
        "u": wg.tensor(np.array([0, 7, 255], np.uint8)),
        "flags": wg.tensor(np.array([True, False, True])),
        "scalar": wg.tensor(2.5),
        "empty": wg.zeros((0, 3)),
        "naïve λ": wg.tensor([float("nan"), float("inf"), -0.0]),
    }


def content(tensors):
    """What must not differ, in a form that == compares bit for bit."""
    return {
        name: (x.dtype.name, x.shape, x.detach().contiguous().numpy().tobytes())
        for name, x in tensors.items()
    }


def names(directory):
    return [path.name for path in directory.iterdir()]


def raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


# ---- round trips


@pytest.mark.smoke
def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = sample()
    io.save(path, tensors, {"who": "me", "ключ": "значение"})
    loaded = io.load(path, verify=True)
    assert content(loaded) == content(tensors)
    assert list(loaded) == list(tensors)
    assert io.load_metadata(path) == {"who": "me", "ключ": "значение"}
    assert names(tmp_path) == ["a.safetensors"]
    header = path.read_bytes()[8 : 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]]
    assert len(header) % 8 == 0
    for name, entry in json.loads(header).items():
        if name != "__metadata__":  # aligned to its element
            assert entry["data_offsets"][0] % tensors[name].itemsize == 0
    io.save(path, {})
    assert io.load(path) == {} and io.load_metadata(path) == {}


def test_views_parameters_and_expanded_tensors(tmp_path):
    path = tmp_path / "a"
    x = wg.arange(12).reshape(3, 4)
    weight = nn.Linear(2, 3).weight
    io.save(path, {"t": x.T, "row": x[1], "wide": wg.ones((1, 3)).expand(4, 3), "w": weight})
    loaded = io.load(path)
    assert loaded["t"].tolist() == x.T.tolist() and loaded["row"].tolist() == [4, 5, 6, 7]
    assert loaded["wide"].tolist() == [[1.0] * 3] * 4
    assert loaded["w"].tolist() == weight.tolist() and not loaded["w"].requires_grad
    loaded["t"][0, 0] = 5  # its own memory


def test_a_symbolic_link_and_the_permissions_stay(tmp_path):
    real = tmp_path / "real"
    io.save(real, {"x": wg.ones((1,))})
    real.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(real)
    io.save(link, {"x": wg.zeros((1,))})
    assert link.is_symlink() and io.load(real)["x"].tolist() == [0.0]
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.save("here", {"x": wg.ones((1,))})
    assert io.load("here")["x"].item() == 1.0


@pytest.mark.smoke
def test_save_refuses(tmp_path):
    path = tmp_path / "a"
    x = wg.ones((1,))
    io.save(path, {"x": x})
    for tensors, metadata, error in [
        ({"x": np.ones(1)}, None, TypeError),
        ({1: x}, None, TypeError),
        ({"__metadata__": x}, None, ValueError),
        ({"\ud800": x}, None, ValueError),
        ({"x": x}, {"a": 1}, TypeError),
        ({"x": x}, {"wengert.sha256": "1"}, ValueError),
        ({"x": x}, {"a": "\ud800"}, ValueError),
    ]:
        with pytest.raises(error, match="save: "):
            io.save(path, tensors, metadata)
    with pytest.raises(FileError, match="not a regular file"):
        io.save(tmp_path, {"x": x})
    with pytest.raises(FileNotFoundError):
        io.save(tmp_path / "no" / "a", {"x": x})
    assert names(tmp_path) == ["a"] and io.load(path)["x"].item() == 1.0


# ---- damaged and foreign files


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


F = b"\0" * 4
WRONG = [
    ("no header", b"", b"", "truncated"),
    ("not an object", b"[]", b"", "does not begin"),
    ("bad JSON", b"{", b"", "not JSON"),
    ("bad UTF-8", b'{"\xff": 1}', b"", "not JSON"),
    ("twice", b'{"a": {"dtype":"F32","shape":[],"data_offsets":[0,4]}, "a": 1}', F, "twice"),
    ("inner twice", b'{"a": {"dtype":"F32","dtype":"F32"}}', F, "twice"),
    ("deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "nested"),
    ("nan", b'{"a": NaN}', b"", "NaN is not JSON"),
    ("long number", b'{"a": ' + b"9" * 5000 + b"}", b"", "not JSON"),
    ("entry", {"a": 1}, b"", "must have dtype"),
    ("extra field", {"a": {**entry(), "x": 1}}, F, "must have dtype"),
    ("dtype", {"a": entry("F9", (4,))}, F, "known are"),
    ("dtype list", {"a": entry(["F32"])}, F, "known are"),
    ("shape", {"a": {**entry(), "shape": 1}}, F, "list of sizes"),
    ("negative", {"a": entry(shape=(-1, -1))}, F, "list of sizes"),
    ("bool size", {"a": entry(shape=(True,))}, F, "list of sizes"),
    ("float size", {"a": entry(shape=(1.0,))}, F, "list of sizes"),
    ("overflow", {"a": entry(shape=(2**62, 4))}, F, "needs"),
    ("overflow to zero", {"a": entry(shape=(2**32, 2**32), offsets=(0, 0))}, b"", "needs"),
    ("2^63", {"a": entry(shape=(2**63,))}, F, "list of sizes"),
    ("axes", {"a": entry(shape=(1,) * 11)}, F, "11 axes"),
    ("offsets", {"a": entry(offsets=(0,))}, F, "two positions"),
    ("offsets back", {"a": entry(offsets=(4, 0))}, F, "span -4"),
    ("offsets negative", {"a": entry(offsets=(-4, 0))}, F, "two positions"),
    ("mismatch", {"a": entry(offsets=(0, 8))}, F * 2, "needs 4 bytes"),
    ("beyond", {"a": entry(shape=(2**40,), offsets=(0, 2**42))}, F, "ends at"),
    ("gap at 0", {"a": entry(offsets=(4, 8))}, F * 2, "gap"),
    ("gap", {"a": entry(), "b": entry(offsets=(8, 12))}, F * 3, "gap"),
    ("overlap", {"a": entry(), "b": entry(offsets=(2, 6))}, F * 2, "overlaps"),
    ("same place", {"a": entry(), "b": entry()}, F, "overlaps"),
    ("rest", {"a": entry()}, F * 2, "8 bytes of data"),
    ("metadata", {"__metadata__": {"a": 1}}, b"", "object of texts"),
    ("metadata list", {"__metadata__": []}, b"", "object of texts"),
    ("bool", {"a": entry("BOOL", (4,))}, b"\0\1\2\0", "other than 0, 1"),
]


@pytest.mark.parametrize(
    ("header", "data", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
@pytest.mark.smoke
def test_wrong_files(tmp_path, header, data, text):
    path = tmp_path / "wrong"
    if header == b"":
        path.write_bytes(b"1234")
    else:
        raw(path, header, data)
    with pytest.raises(FileError, match=text) as caught:
        io.load(path)
    assert str(path) in str(caught.value)
    if text != "other than 0, 1":
        with pytest.raises(FileError):
            io.load_metadata(path)


def test_header_length(tmp_path):
    path = tmp_path / "a"
    for length, text in ((100_000_001, "allowed"), (2**64 - 1, "allowed"), (1000, "truncated")):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(FileError, match=text):
            io.load(path)


def test_not_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        io.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="regular"):
        io.load(tmp_path / "pipe")


def test_a_file_that_claims_much_takes_no_memory(tmp_path):
    """2^46 bytes are refused by arithmetic, in no time."""
    path = raw(tmp_path / "a", {"a": entry("F64", (2**43,), (0, 2**46))})
    start = time.perf_counter()
    with pytest.raises(FileError):
        io.load(path)
    assert time.perf_counter() - start < 1.0


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a"
    io.save(path, sample(), {"k": "v"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FileError):
            io.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileError):
        io.load(path)


def mutate(data, rng):
    """One of several kinds of damage, biased to the header."""
    data = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    limit = header if rng.random() < 0.7 else len(data)
    kind = rng.randrange(6)
    at = rng.randrange(limit)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.randrange(256)
    elif kind == 2:
        data[at : at + rng.randrange(1, 9)] = bytes(rng.randrange(256) for _ in range(4))
    elif kind == 3:  # digits, to reach sizes and offsets
        digits = [i for i in range(8, header) if 48 <= data[i] < 58]
        data[rng.choice(digits)] = rng.randrange(48, 58)
    elif kind == 4:  # two pieces change places
        other = rng.randrange(limit)
        data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]
    else:  # same length of the header, another text of it
        text = rng.choice([b"F32", b"F64", b"I32", b"sha256", b"header", b"shape", b"b"])
        found = data.find(text)
        data[found : found + len(text)] = rng.choice([b"I32", b"F32", b"xyz", b"F16", text[::-1]])
    return bytes(data)


def test_2000_damaged_files_are_refused_or_the_same(tmp_path):
    path = tmp_path / "a"
    tensors, metadata = sample(), {"epoch": "3", "note": "text"}
    io.save(path, tensors, metadata)
    whole, wanted = path.read_bytes(), content(tensors)
    rng = random.Random(0)
    refused = 0
    for _ in range(2000):
        damaged = mutate(whole, rng)
        path.write_bytes(damaged)
        try:
            loaded, text = io.load(path), io.load_metadata(path)
        except FileError:
            refused += 1
            continue
        # Accepted: then nothing that was saved may be different.
        assert content(loaded) == wanted
        assert text == metadata
    assert refused > 1500


def test_damaged_files_without_checksums_never_crash(tmp_path):
    """Another writer's file may come back different where its bytes are, but always in order."""
    header, data = {}, b""
    for name, x in sample().items():
        dtype = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64"}
        kind = dtype.get(x.dtype.name, "U8" if x.dtype.name == "uint8" else "BOOL")
        array = x.numpy()
        header[name] = entry(kind, x.shape, (len(data), len(data) + array.nbytes))
        data += array.tobytes()
    whole = raw(tmp_path / "a", header, data).read_bytes()
    rng = random.Random(1)
    accepted = 0
    for _ in range(500):
        (tmp_path / "a").write_bytes(mutate(whole, rng))
        try:
            loaded = io.load(tmp_path / "a")
        except FileError:
            continue
        accepted += 1
        assert sum(x.nbytes for x in loaded.values()) <= len(whole) * 2
    assert accepted > 20


@pytest.mark.smoke
def test_checksums(tmp_path):
    path = tmp_path / "a"
    io.save(path, {"x": wg.ones((3,)), "y": wg.zeros((2,))})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match="checksum of 'y' does not match"):
        io.load(path)
    assert io.load(path, verify=False)["x"].tolist() == [1.0] * 3
    foreign = raw(tmp_path / "b", {"x": entry()}, struct.pack("<f", 1.5))
    assert io.load(foreign)["x"].tolist() == [1.5]
    with pytest.raises(FileError, match="no checksums"):
        io.load(foreign, verify=True)


def test_half_precision_is_widened(tmp_path):
    values = np.array([1.0, -2.5, 6e-8, 65504.0, np.inf, np.nan], np.float16)
    path = raw(tmp_path / "h", {"x": entry("F16", (2, 3), (0, 12))}, values.tobytes())
    x = io.load(path)["x"]
    assert x.dtype == wg.float32 and x.shape == (2, 3)
    np.testing.assert_array_equal(x.numpy().ravel(), values.astype(np.float32))


def test_eight_bits(tmp_path):
    """Against the definition of the bits."""
    codes = np.arange(256, dtype=np.uint8)
    for dtype, e, m in (("F8_E4M3", 4, 3), ("F8_E5M2", 5, 2)):
        sign = 1.0 - 2.0 * (codes >> 7)
        exponent, mantissa = (codes >> m) & (2**e - 1), (codes & (2**m - 1)) / 2**m
        bias = 2 ** (e - 1) - 1
        subnormal = mantissa * 2.0 ** (1 - bias)
        normal = (1 + mantissa) * 2.0 ** (exponent.astype(int) - bias)
        values = sign * np.where(exponent == 0, subnormal, normal)
        if dtype == "F8_E4M3":
            values[codes & 127 == 127] = np.nan
        else:
            last = exponent == 31
            values[last] = np.where(mantissa[last] == 0, sign[last] * np.inf, np.nan)
        path = raw(tmp_path / "f", {"x": entry(dtype, (256,), (0, 256))}, codes.tobytes())
        np.testing.assert_array_equal(io.load(path)["x"].numpy(), values.astype(np.float32))
        assert np.signbit(io.load(path)["x"].numpy()[128])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("dtype", "stored", "becomes"),
    [
        ("I8", "int8", "int32"),
        ("I16", "int16", "int32"),
        ("U16", "uint16", "int32"),
        ("U32", "uint32", "int64"),
        ("U64", "uint64", "int64"),
    ],
)
def test_other_integers_become_wider_ones(tmp_path, dtype, stored, becomes, mmap):
    limits = np.iinfo(stored)
    values = np.array([[limits.min, 1], [7, min(limits.max, 2**63 - 1)]], stored)
    header = {
        "w": entry(offsets=(0, 4)),
        "x": entry(dtype, (2, 2), (4, 4 + values.nbytes)),
        "one": entry(dtype, (), (4 + values.nbytes, 4 + values.nbytes + values.itemsize)),
    }
    data = struct.pack("<f", 1.5) + values.tobytes() + values.dtype.type(7).tobytes()
    found = io.load(raw(tmp_path / "a", header, data), mmap=mmap)
    assert found["w"].tolist() == [1.5] and found["x"].dtype.name == becomes
    assert found["x"].tolist() == values.tolist() and found["one"].tolist() == 7


@pytest.mark.parametrize("mmap", [False, True])
def test_what_no_dtype_holds_is_passed_over_by_name(tmp_path, mmap):
    sizes = {"C64": 16, "F4": 1, "F6_E2M3": 3, "F8_E8M0": 2, "U64": 16}
    header, data = {"w": entry(offsets=(0, 4))}, struct.pack("<f", 1.5)
    for dtype, size in sizes.items():
        shape = (4,) if dtype == "F6_E2M3" else (2,)
        header[f"odd.{dtype}"] = entry(dtype, shape, (len(data), len(data) + size))
        data += b"\xff" * size
    path = raw(tmp_path / "a", header, data)
    with pytest.warns(UserWarning, match=r"passed over 'odd.C64' \(C64\), .*'odd.U64'") as caught:
        assert io.load(path, mmap=mmap)["w"].tolist() == [1.5]
    assert len(caught) == 1 and caught[0].filename == __file__
    assert io.load_metadata(path) == {}
    header["odd.F4"]["shape"] = [3]  # a byte and a half
    with pytest.raises(FileError, match=r"'odd.F4', F4 of shape .3., needs 2 bytes"):
        io.load(raw(tmp_path / "a", header, data))


def test_files_of_other_formats_are_named(tmp_path):
    torch_like = tmp_path / "a.pt"
    with zipfile.ZipFile(torch_like, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    npy, npz, gz = tmp_path / "a.npy", tmp_path / "a.npz", tmp_path / "a.gz"
    np.save(npy, np.ones(3))
    np.savez(npz, x=np.ones(3))
    io.save(tmp_path / "a", {"x": wg.ones((1,))})
    gz.write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    onnx, old, h5 = tmp_path / "a.onnx", tmp_path / "a.bin", tmp_path / "a.h5"
    onnx.write_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(100))
    old.write_bytes(b"\x80\x02}q\x00X" + bytes(100))
    h5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    index = tmp_path / "a.json"
    index.write_text('{"weight_map": {}}')
    for path, says in [
        (npy, r"an array of NumPy's \(\.npy\); numpy\.load"),
        (npz, r"NumPy's \.npz; numpy\.load"),
        (gz, "packed by gzip"),
        (onnx, r"an ONNX model; wengert\.onnx\.load"),
        (old, r"a pickle of PyTorch's, .*save model\.state_dict"),
        (h5, "an HDF5 file"),
        (index, "JSON, not tensors"),
    ]:
        for read in (io.load, io.load_metadata, io.load_checkpoint):
            with pytest.raises(FileError, match=rf"{path}: is {says}"):
                read(path)
    for read in (io.load_metadata, io.load_checkpoint):
        with pytest.raises(FileError, match=r"a zip archive of PyTorch's, .*wengert\.load reads"):
            read(torch_like)


def test_safetensors_reads_ours_and_we_read_theirs(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    tensors = sample()
    path = tmp_path / "a"
    io.save(path, tensors, {"k": "v"})
    for name, array in library.load_file(path).items():
        ours = tensors[name].numpy()
        assert array.dtype == ours.dtype and array.tobytes() == ours.tobytes()
        assert array.shape == ours.shape
    with safe_open(path, "np") as file:
        assert file.metadata()["k"] == "v"
    arrays = {name: x.numpy().copy() for name, x in tensors.items()}
    library.save_file(arrays, path, {"k": "v"})
    assert content(io.load(path)) == content(tensors)
    assert io.load_metadata(path) == {"k": "v"}


# ---- crashes


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_removes_the_new(tmp_path, monkeypatch, error, call):
    path = tmp_path / "a"
    io.save(path, {"x": wg.ones((2,))})

    def fail(*args):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        io.save(path, {"x": wg.zeros((2,))})
    monkeypatch.undo()
    assert names(tmp_path) == ["a"] and io.load(path)["x"].tolist() == [1.0, 1.0]


def test_ctrl_c_between_the_pieces_of_a_tensor(tmp_path, monkeypatch):
    """Large tensors are written and read in pieces, and the first of two is not a file."""
    path, large = tmp_path / "a", wg.arange(5 << 20, dtype="float32")  # 20 MiB
    io.save(path, {"x": large})
    assert np.array_equal(io.load(path)["x"].numpy(), large.numpy())
    pieces = io.pieces

    def stop_after_one(memory):
        yield next(pieces(memory))
        raise KeyboardInterrupt

    monkeypatch.setattr(_numbers, "pieces", stop_after_one)
    monkeypatch.setattr(io, "pieces", stop_after_one)
    for call in (lambda: io.load(path), lambda: io.save(path, {"x": large + 1})):
        with pytest.raises(KeyboardInterrupt):
            call()
    monkeypatch.undo()
    assert names(tmp_path) == ["a"] and np.array_equal(io.load(path)["x"].numpy(), large.numpy())


def test_a_full_disk(tmp_path):
    """A limit on the size of files stands for the full disk."""
    code = """
        import resource, signal, sys
        import wengert as wg
        from wengert import io
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        io.save(sys.argv[1], {"x": wg.ones((10,))})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            io.save(sys.argv[1], {"x": wg.zeros((1_000_000,))})
        except OSError as error:
            print("OSError", error)
    """
    done = run_python(code, tmp_path / "a")
    assert done.stdout.startswith("OSError"), done.stderr
    assert done.stdout.rstrip().endswith(repr(str(tmp_path / "a")))
    assert names(tmp_path) == ["a"] and io.load(tmp_path / "a")["x"].shape == (10,)


def test_every_writer_keeps_the_old_file_on_a_full_disk(tmp_path):
    code = """
        import os, resource, signal, sys
        from pathlib import Path
        import wengert as wg
        from wengert import io, nn, study
        from wengert.models.bert import BertConfig, BertModel
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        d = Path(sys.argv[1])
        model = nn.MLP([20, 30, 5])
        x = wg.ones((4, 20))
        def step():
            loss = model(x).sum()
            loss.backward()
            return loss
        program = study.trace(step)()
        bert = BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
                                    num_attention_heads=2, intermediate_size=8))
        writers = {
            "p.html": program.to_html, "p.json": program.to_json, "p.py": program.to_numpy,
            "t.txt": lambda path: io.write_text(path, "new" * 1000),
            "config.json": lambda path: bert.save_pretrained(path.parent),
        }
        for name in writers:
            (d / name).write_text("old")
        before = sorted(os.listdir(d))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        for name, write in writers.items():
            try:
                write(d / name)
                print("written", name)
            except OSError as error:
                wanted = "model.safetensors" if name == "config.json" else name
                print("kept" if wanted in str(error) else f"no name: {error}")
            assert (d / name).read_text() == "old", name
        assert sorted(os.listdir(d)) == before, os.listdir(d)
        io.write_text("/dev/null", "x" * 1000)
        os.mkfifo(d / "pipe")
        child = os.fork()
        if not child:
            os._exit((d / "pipe").read_text() != "through")
        io.write_text(d / "pipe", "through")
        print(os.waitpid(child, 0)[1])
    """
    done = run_python(code, tmp_path)
    assert done.stdout.split("\n")[:6] == ["kept"] * 5 + ["0"], done.stdout + done.stderr


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_stale_temporary_files_go_and_live_ones_stay(tmp_path):
    import fcntl

    stale = tmp_path / ".a.0123456789ab.tmp"
    live = tmp_path / ".a.ba9876543210.tmp"
    others = [
        tmp_path / ".b.0123456789ab.tmp",
        tmp_path / ".a.tmp",
        tmp_path / "a.0123456789ab.tmp",
    ]
    for path in (stale, live, *others):
        path.write_bytes(b"half")
    pipe, directory = tmp_path / ".a.00112233aabb.tmp", tmp_path / ".a.00112233aabc.tmp"
    os.mkfifo(pipe)  # nobody will ever write to it
    directory.mkdir()
    others += [pipe, directory]
    with live.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        io.save(tmp_path / "a", {"x": wg.ones((1,))})
    assert not stale.exists() and live.exists() and all(path.exists() for path in others)


def test_killed_while_saving_30_times(tmp_path):
    """SIGKILL at random moments: the file is always whole, one of those that were being saved."""
    path = tmp_path / "a"
    size = 300_000
    code = """
        import sys, time
        import wengert as wg
        from wengert import io
        i = int(sys.argv[2])
        while True:
            x = wg.full((int(sys.argv[3]),), float(i))
            start = time.perf_counter()
            io.save(sys.argv[1], {"x": x, "y": x}, {"i": str(i)})
            if i % 1000 < 2:
                print(time.perf_counter() - start, flush=True)
            i += 1
    """
    rng = random.Random(0)
    seen, unfinished = [], 0
    for turn in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path), str(turn * 1000), str(size)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            process.stdout.readline()  # the first save imports what it needs
            if turn == 0:
                seconds = float(process.stdout.readline())  # that a save takes here
            time.sleep(rng.random() * 4 * seconds)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        unfinished += len(names(tmp_path)) - 1
        x = io.load(path, verify=True)
        i = float(io.load_metadata(path)["i"])
        for tensor in x.values():
            values = tensor.numpy()
            assert values.shape == (size,) and (values == i).all()
        seen.append(i)
    assert seen == sorted(seen) and len(set(seen)) == 30
    assert unfinished > 3  # the kills did fall into saves
    io.save(path, {"x": wg.ones((1,))})
    assert names(tmp_path) == ["a"]


def test_two_processes_that_save_to_one_file(tmp_path):
    code = """
        import sys
        import wengert as wg
        from wengert import io
        for i in range(40):
            io.save(sys.argv[1], {"x": wg.full((1000,), float(sys.argv[2]))})
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a"), str(i)])
        for i in range(3)
    ]
    assert [p.wait(60) for p in processes] == [0, 0, 0]
    assert len(set(io.load(tmp_path / "a")["x"].tolist())) == 1
    assert names(tmp_path) == ["a"]


# ---- checkpoints


def trainer():
    wg.manual_seed(0)
    model = nn.MLP([3, 4, 2])
    optimizer = optim.Adam(model.parameters(), 0.05)
    return model, optimizer, optim.StepLR(optimizer, 2, 0.5)


def train(model, optimizer, schedule, steps, start=0):
    for i in range(start, start + steps):
        optimizer.zero_grad()
        x = wg.tensor(np.random.default_rng(i).standard_normal((5, 3)), "float32")
        (model(x) * model(x)).sum().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.smoke
def test_a_checkpoint_resumes_to_the_same_bits(tmp_path):
    path = tmp_path / "c"
    one = trainer()
    train(*one, 5)
    extra = {"epoch": 5, "history": [1.5, None, True, "x", float("inf")]}
    io.save_checkpoint(path, one[0], one[1], 5, extra, one[2])
    train(*one, 5, 5)
    two = trainer()
    found = io.load_checkpoint(path, *two)
    assert found.step == 5 and found.extra == extra
    train(*two, 5, 5)
    assert content(one[0].state_dict()) == content(two[0].state_dict())
    assert one[1].lr == two[1].lr
    assert set(found.model) == set(one[0].state_dict()) and found.scheduler["last_epoch"] == 5
    io.save_checkpoint(path, one[0])
    assert io.load_checkpoint(path).optimizer is None
    three = nn.MLP([3, 4, 2])
    assert io.load_checkpoint(path, three).step == 0
    assert content(three.state_dict()) == content(one[0].state_dict())


def test_checkpoints_that_do_not_fit_change_nothing(tmp_path):
    path = tmp_path / "c"
    model, optimizer, schedule = trainer()
    train(model, optimizer, schedule, 2)
    io.save_checkpoint(path, model, optimizer, 2)
    other = nn.MLP([3, 4, 2])
    before = content(other.state_dict())
    with pytest.raises(ValueError, match="is SGD"):
        io.load_checkpoint(path, other, optim.SGD(other.parameters(), 0.1))
    wrong = optim.Adam(nn.MLP([3, 5, 2]).parameters())
    with pytest.raises(ValueError, match="has shape"):
        io.load_checkpoint(path, other, wrong)
    with pytest.raises(ValueError, match="scheduler"):
        io.load_checkpoint(path, other, scheduler=schedule)
    assert content(other.state_dict()) == before
    io.save_checkpoint(path, model, optimizer, 2, {}, schedule)
    tensors, about = io.load(path), json.loads(io.load_metadata(path)["checkpoint"])
    mine = optim.Adam(other.parameters(), 0.3)
    for change, says in [
        ({"scheduler": {}}, "a state of it has"),
        ({"scheduler": {**about["scheduler"], "class": "LinearLR"}}, "is the state of LinearLR"),
        ({"scheduler": {**about["scheduler"], "last_epoch": "x"}}, "last_epoch"),
        ({"step": float("inf")}, "its step is inf"),
        ({"step": -1}, "its step is -1"),
        ({"step": 2.5}, "its step is 2.5"),
        ({"optimizer": {**about["optimizer"], "class": "SGD"}}, "has the state of SGD"),
        ({"optimizer": {**about["optimizer"], "param_groups": [5]}}, "param_groups"),
        ({"optimizer.0.step": wg.tensor(float("inf"))}, "step of parameter 0 is inf"),
        ({"optimizer.0.step": wg.tensor(1e30)}, "step of parameter 0 is 1"),
        ({"optimizer.0.step": wg.tensor(2.5)}, "step of parameter 0 is 2.5"),
        ({"optimizer.0.step": wg.ones(2)}, "step of parameter 0 is tensor"),
        ({"optimizer.01.step": wg.ones(1)}, "has a tensor 'optimizer.01.step'"),
        ({"stray": wg.ones(1)}, "whole checkpoint"),
    ]:
        added = {key: value for key, value in change.items() if isinstance(value, wg.Tensor)}
        changed = about if added else {**about, **change}
        io.save(path, {**tensors, **added}, {"checkpoint": json.dumps(changed)})
        with pytest.raises(ValueError, match=says):
            io.load_checkpoint(path, other, mine, optim.StepLR(mine, 10))
        assert content(other.state_dict()) == before and mine.state_dict()["state"] == {}
        assert mine.lr == 0.3
    groups = [{**about["optimizer"]["param_groups"][0], "initial_lr": "x"}]
    bad = {**about, "optimizer": {**about["optimizer"], "param_groups": groups}}
    io.save(path, tensors, {"checkpoint": json.dumps(bad)})
    with pytest.raises(ValueError, match="initial_lr is 'x'"):
        io.load_checkpoint(path, other, mine)
    with pytest.raises(ValueError, match="misshaped"):
        io.load_checkpoint(path, nn.MLP([3, 5, 2]))
    io.save_checkpoint(path, model)
    with pytest.raises(ValueError, match="no optimizer state"):
        io.load_checkpoint(path, other, optimizer)
    io.save(path, {"x": wg.ones((1,))})
    with pytest.raises(FileError, match="not a checkpoint"):
        io.load_checkpoint(path)
    for text in ("[]", "{}", "{", '{"format": 2, "step": 1, "extra": null}', "[" * 100_000):
        io.save(path, {"model.x": wg.ones((1,))}, {"checkpoint": text})
        with pytest.raises(FileError, match="whole checkpoint"):
            io.load_checkpoint(path)
    with pytest.raises(TypeError, match="keys must be text"):
        io.save_checkpoint(path, model, extra={"a": {1: 2}})
    with pytest.raises(TypeError, match=r"extra\['a'\]\[0\] is Tensor"):
        io.save_checkpoint(path, model, extra={"a": [wg.ones((1,))]})
