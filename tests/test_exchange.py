"""Tensors to and from others: NumPy, the buffer protocol, DLPack with NumPy and PyTorch, copies.

What is shared must be the same memory, must outlive whoever lets go first, and must not be
writable behind the back of a saved value (test_autograd writes; here are flags and lifetimes).
"""

import copy
import ctypes
import gc
import pickle
import threading

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim

NAMES = ["float32", "float64", "int32", "int64", "uint8", "bool"]


def sample(name, shape=(2, 3)):
    n = int(np.prod(shape))
    a = np.arange(n).reshape(shape)
    return (a % 2 == 0) if name == "bool" else a.astype(name)


def strides(a):  # those that mean something
    return [stride for stride, size in zip(a.strides, a.shape, strict=True) if size > 1]


def address(a):
    return a.__array_interface__["data"][0]


LAYOUTS = {
    "plain": lambda a: a,
    "transposed": lambda a: a.T,
    "backwards": lambda a: a[::-1, ::-1],
    "every other": lambda a: a[:, ::2],
    "backwards by two": lambda a: a[:, ::-2],
    "a column": lambda a: a[:, 1],
    "expanded": lambda a: np.broadcast_to(a[:1], (4, 3)),
    "fortran": np.asfortranarray,
    "new axes": lambda a: a[None, :, None],
    "zero size": lambda a: a[:0],
    "zero size inside": lambda a: a[:, :0],
    "0-d": lambda a: a[0, 0, ...],
}


# ---- NumPy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.smoke
def test_numpy_and_back_is_the_same_memory(name, layout):
    a = LAYOUTS[layout](sample(name))
    t = wg.from_numpy(a)
    b = t.numpy()
    assert t.dtype == name
    assert t.shape == a.shape == b.shape
    assert b.dtype == a.dtype
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.asarray(t.clone()), a)
    assert t.tolist() == a.tolist()
    if a.size:
        assert address(a) == address(b) == t.data_ptr()
        assert strides(a) == strides(b)
        assert np.shares_memory(a, b)
    assert not b.flags.writeable


def test_a_write_on_one_side_is_seen_on_the_other():
    a = np.zeros((2, 3))
    t = wg.from_numpy(a[::-1])
    t[0, 0] = 5.0
    assert a[1, 0] == 5.0
    a[0, 2] = 7.0
    assert t[1, 2].item() == 7.0
    view = t.numpy()
    t.add_(1)
    assert view[0, 0] == 6.0


def test_a_view_of_a_tensor_cannot_be_made_writable_behind_its_back():
    t = wg.ones((3,))
    view = t.numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    assert not np.asarray(t).flags.writeable
    assert memoryview(t).readonly


def test_a_writable_view_counts_as_an_edit():
    t = wg.ones((3,))
    before = t.version
    w = t.numpy(writable=True)
    assert t.version == before + 1
    w[1] = 5
    assert t.tolist() == [1.0, 5.0, 1.0]


def test_read_only_arrays_stay_read_only():
    a = np.ones(3)
    a.flags.writeable = False
    t = wg.from_numpy(a)
    for edit in (
        lambda: t.add_(1),
        lambda: t.__setitem__(0, 2.0),
        lambda: t[1:].zero_(),
        lambda: t.reshape(3, 1).fill_(1),
        lambda: t.numpy(writable=True),
        lambda: t.detach().mul_(2),
    ):
        with pytest.raises(ValueError, match=r"read-only.*clone"):
            edit()
    assert t.clone().add_(1).tolist() == [2.0] * 3
    assert a.tolist() == [1.0] * 3


def test_expanded_memory_is_not_written_in_place():
    t = wg.ones((1, 3)).expand(2, 3)
    for edit in (lambda: t.add_(1), lambda: t.__setitem__((0, 0), 2.0)):
        try:
            edit()
        except ValueError as e:
            assert "clone" in str(e)
    assert t.tolist() in ([[1.0] * 3] * 2, [[2.0, 1.0, 1.0]] * 2)
    w = wg.from_numpy(np.broadcast_to(np.ones(3), (2, 3)))
    with pytest.raises(ValueError, match="add"):
        w.add_(1)


@pytest.mark.parametrize(
    "a",
    [
        np.ones(2, np.float16),
        np.ones(2, np.complex64),
        np.ones(2, np.int16),
        np.ones(2, np.uint64),
        np.ones(2, np.longdouble),
        np.ones(2, ">f4"),
        np.ones(2, ">i8"),
        np.array(["a"]),
        np.array([None]),
        np.array(["2020"], dtype="M8[D]"),
        np.zeros(2, dtype=[("x", "f4")]),
    ],
    ids=lambda a: str(a.dtype),
)
def test_other_dtypes_are_refused_by_name(a):
    with pytest.raises(wg.DTypeError) as caught:
        wg.from_numpy(a)
    text = str(caught.value)
    assert "from_numpy" in text
    assert "float32" in text
    if a.dtype.kind in "fiu":  # what it tells is a way out, and no digit is lost
        assert 'tensor(array, dtype="float32")' in text
        for make in (wg.tensor, wg.asarray):
            for dtype in ("float32", "float64", "int64", float, int):
                t = make(a * 3, dtype=dtype)
                assert t.tolist() == [3, 3]
                assert t.dtype == (
                    dtype if isinstance(dtype, str) else {float: "float64"}.get(dtype, "int64")
                )
    else:
        with pytest.raises((TypeError, ValueError)):
            wg.tensor(a, dtype="float32")
        with pytest.raises((TypeError, ValueError)):
            wg.asarray(a, dtype="float32")
    if a.dtype.str[0] == ">":  # a copy has this machine's byte order
        assert wg.tensor(a).tolist() == wg.asarray(a).tolist() == [1, 1]
        return
    with pytest.raises((TypeError, ValueError)):
        wg.tensor(a)
    with pytest.raises((TypeError, ValueError)):
        wg.asarray(a)


def test_digits_of_other_dtypes():
    most = 2**63 - 1
    assert wg.tensor(np.array([most], "u8"), dtype="int64").tolist() == [most]
    assert wg.tensor(np.array([2**64 - 1], "u8"), dtype="float64").tolist() == [2.0**64]
    for make in (wg.tensor, wg.asarray):
        with pytest.raises(ValueError, match="does not fit into int64"):
            make(np.array([most + 1], "u8"), dtype="int64")
    assert wg.tensor(np.array([-3, 7], "i2"), dtype="uint8").tolist() == [253, 7]
    assert wg.tensor(np.array([0.1], "f2"), dtype="float64").item() == float(np.float16(0.1))
    assert wg.tensor(np.array([[1, 2], [3, 4]], ">f8").T).tolist() == [[1, 3], [2, 4]]
    assert wg.tensor(np.zeros((0, 3), "u8"), dtype="int64").shape == (0, 3)
    assert wg.tensor(np.array([0, 2**63], "u8"), dtype="bool").tolist() == [False, True]
    with pytest.raises(wg.DTypeError, match="dtype"):
        wg.zeros((2,), dtype=complex)
    for data in (["1"], [b"7"], [1j], [None], [2**70]):
        for dtype in (None, "int64", "float32"):
            with pytest.raises(wg.DTypeError, match="expected real numbers or bools"):
                wg.tensor(data, dtype=dtype)


def test_memory_that_is_not_whole_elements_is_refused():
    fields = np.zeros(3, dtype=[("flag", "u1"), ("x", "<f4")])
    with pytest.raises(ValueError, match=r"from_numpy.*copy"):
        wg.from_numpy(fields["x"])
    raw = np.zeros(9, np.uint8)
    with pytest.raises(ValueError, match=r"from_numpy.*copy"):
        wg.from_numpy(raw[1:].view(np.float32))
    with pytest.raises(TypeError, match="from_numpy"):
        wg.from_numpy([1.0])
    with pytest.raises(ValueError, match="10"):
        wg.from_numpy(np.zeros((1,) * 11))


def test_lifetimes_with_numpy():
    a = np.arange(4.0)
    t = wg.from_numpy(a)
    view = t[1:].numpy()
    del a, t
    gc.collect()
    junk = [np.full(4, -1.0) for _ in range(100)]
    assert view.tolist() == [1.0, 2.0, 3.0]
    start = wg.memory_allocated()
    t = wg.full((1000,), 3.0)
    view = t.reshape(10, 100).numpy()
    del t
    assert wg.memory_allocated() >= start + 4000
    junk += [wg.zeros((1000,)) for _ in range(5)]
    assert view.sum() == 3000
    del view, junk
    gc.collect()
    assert wg.memory_allocated() == start


def test_arrays_are_let_go():
    a = np.zeros(10)

    class Watched(np.ndarray):
        pass

    import weakref

    watched = a.view(Watched)
    gone = weakref.ref(watched)
    t = wg.from_numpy(watched)
    u = t[2:]
    del watched, t
    assert gone() is not None
    del u
    assert gone() is None


def test_conversion_by_numpy():
    t = wg.arange(3)
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert np.array(t).flags.writeable
    assert np.array(t, dtype="int64", copy=True)[2] == 2
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype=np.float32, copy=False)
    x = wg.ones((2,)).requires_grad_()
    for convert in (
        np.asarray,
        np.array,
        lambda x: x.numpy(),
        np.from_dlpack,
        wg.Tensor.__dlpack__,
    ):
        with pytest.raises(wg.GradientError, match="detach"):
            convert(x)
    assert np.asarray(x.detach()).tolist() == [1.0, 1.0]


def test_operators_between_arrays_and_tensors_give_tensors():
    t = wg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    a = np.array([3.0, 4.0])
    for y in (a * t, t * a, np.float64(1) * t):
        assert isinstance(y, wg.Tensor)
        assert y.requires_grad
    assert (a - t).tolist() == [2.0, 2.0]
    a += t.detach()
    assert type(a) is np.ndarray and a.tolist() == [4.0, 6.0]


A = np.random.default_rng(0).standard_normal((3, 4))
S = np.random.default_rng(1).standard_normal((4, 4))
FUNCTIONS = [  # of A and the like, with what else they take
    *((f, (A,), {}) for f in (np.exp, np.abs, np.negative, np.arctan, np.square, np.rint)),
    *((f, (A, A + 1), {}) for f in (np.add, np.divide, np.maximum, np.arctan2, np.less)),
    *((f, (A,), {}) for f in (np.sum, np.mean, np.var, np.std, np.max, np.median, np.cumsum)),
    *((f, (A,), {"axis": 0}) for f in (np.prod, np.argmax, np.var, np.sort, np.cumprod, np.median)),
    *((f, (A,), {"axis": 1, "keepdims": True}) for f in (np.sum, np.std, np.amin, np.mean)),
    (np.var, (A,), {"ddof": 1}),
    (np.add.reduce, (A,), {}),
    (np.maximum.reduce, (A,), {"axis": None}),
    (np.add.accumulate, (A,), {"axis": 1}),
    (np.power, (abs(A), 1.5), {}),
    (np.matmul, (A, S), {}),
    (np.dot, (A, S[0]), {}),
    (np.dot, (np.ones((2, 3, 4)), np.ones((5, 4, 2))), {}),
    (np.concatenate, ([A, A],), {"axis": None}),
    (np.stack, ([A, A],), {"axis": -1}),
    (np.where, (A > 0, A, 0.0), {}),
    (np.where, (A > 0,), {}),
    (np.transpose, (A,), {}),
    (np.transpose, (np.ones((2, 3, 4)), (1, 0, 2)), {}),
    (np.clip, (A, None, 0.5), {}),
    (np.clip, (A, A * 0 - 0.1, A * 0 + 0.1), {}),
    (np.expand_dims, (A, (0, -1)), {}),
    (np.repeat, (A, 2), {"axis": 1}),
    (np.tile, (A, (2, 1, 2)), {}),
    (np.outer, (A, S), {}),
    (np.vdot, (A, A), {}),
    (np.einsum, ("ij,jk->ik", A, S), {}),
    (np.tensordot, (A, A), {}),
    (np.quantile, (A, [0.3, 0.5]), {"axis": 0}),
    (np.linalg.norm, (np.ones((2, 3, 4)),), {}),
    (np.linalg.norm, (A, 1), {}),
    (np.linalg.norm, (A,), {"axis": 1}),
    (np.linalg.solve, (S, S[0]), {}),
    (np.linalg.slogdet, (S,), {}),
    (np.trace, (S,), {}),  # by NumPy itself, as the next ones
    (np.unique, (np.arange(12) // 2,), {}),
    (np.split, (S, 2), {}),
    (np.spacing, (A,), {}),
]


def to_tensors(value, requires_grad=False):
    if isinstance(value, list):
        return [to_tensors(v, requires_grad) for v in value]
    return wg.tensor(value, requires_grad=requires_grad) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda case: case[0].__name__)
@pytest.mark.smoke
def test_functions_of_numpy(case):
    f, args, kwargs = case
    wanted, got = f(*args, **kwargs), f(*map(to_tensors, args), **kwargs)
    several = isinstance(wanted, (tuple, list))
    for a, b in zip(*((wanted, got) if several else ([wanted], [got])), strict=True):
        assert type(b) is wg.Tensor and b.dtype.name == np.asarray(a).dtype.name
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-12, strict=True)


def test_functions_of_numpy_record_gradients():
    x = wg.tensor(A, requires_grad=True)
    for y, z in [
        (np.exp(x), wg.exp(x)),
        (np.add(np.ones((3, 4)), x), 1 + x),
        (np.sum(np.concatenate([x, A]), axis=0), (x + A).sum(0)),
        (np.var(x, ddof=1), x.var(correction=1)),
        (np.linalg.norm(x), x.square().sum().sqrt()),
    ]:
        one, other = (wg.grad(v.sum(), [x])[0].numpy() for v in (y, z))
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert [line.op for line in wg.trace(np.exp)(wg.ones(2)).lines] == ["exp"]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: np.exp(x, out=np.zeros(2)),
            TypeError,
            r"np\.exp: .*no out=; write wengert\.exp",
        ),
        (lambda x: np.exp(x, where=A > 0), TypeError, "no where="),
        (lambda x: np.exp(x, casting="no"), TypeError, "no casting="),
        (lambda x: np.sum(x, where=A > 0), TypeError, r"np\.sum: .*no where="),
        (lambda x: np.sum(x, dtype="float32"), TypeError, r"np\.sum: .*it takes \(a, axis.*dtype"),
        (lambda x: np.concatenate([x], out=A), TypeError, "no out="),
        (lambda x: np.fft.fft(x), wg.GradientError, r"np\.fft\.fft: .*no such op.*detach"),
        (lambda x: np.add.outer(x, x), wg.GradientError, r"np\.add\.outer"),
    ],
)
def test_what_functions_of_numpy_do_not_take(call, error, text):
    with pytest.raises(error, match=text):
        call(wg.tensor(A, requires_grad=True))


# ---- the buffer protocol


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.smoke
def test_buffers(name):
    t = wg.asarray(sample(name))
    m = memoryview(t)
    assert m.shape == (2, 3)
    assert m.readonly
    assert m.tolist() == sample(name).tolist()
    assert bytes(t) == sample(name).tobytes()
    assert memoryview(t.T).tolist() == sample(name).T.tolist()
    assert bytes(memoryview(t[::-1])) == sample(name)[::-1].tobytes()
    np.testing.assert_array_equal(np.frombuffer(t, dtype=t.dtype.name), sample(name).ravel())


def test_a_buffer_of_a_tensor_with_history_is_refused():
    x = wg.ones((2,)).requires_grad_()
    with pytest.raises(BufferError) as caught:
        memoryview(x)
    assert isinstance(caught.value.__cause__, wg.GradientError)
    assert "detach" in str(caught.value.__cause__)
    assert memoryview(x.detach()).tolist() == [1.0, 1.0]


def test_buffers_refuse_what_they_cannot_show():
    t = wg.ones((2, 3))
    with pytest.raises(BufferError):
        np.frombuffer(t.T)
    with pytest.raises(TypeError):
        memoryview(t)[0, 0] = 5
    with pytest.raises((BufferError, TypeError)):
        (ctypes.c_char * 24).from_buffer(t)
    with pytest.raises((BufferError, wg.GradientError)):
        memoryview(t.clone().requires_grad_())


def test_a_buffer_keeps_the_memory():
    t = wg.full((1000,), 2.0)
    m = memoryview(t)
    del t
    junk = [wg.zeros((1000,)) for _ in range(5)]
    assert m[999] == 2.0
    del junk


# ---- DLPack


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.smoke
def test_dlpack_with_numpy(name, layout):
    a = LAYOUTS[layout](sample(name))
    t = wg.from_dlpack(a)
    np.testing.assert_array_equal(t.numpy(), a)
    b = np.from_dlpack(wg.from_numpy(a))
    np.testing.assert_array_equal(b, a)
    assert b.dtype == a.dtype
    if a.size:
        assert t.data_ptr() == address(a) == address(b)
        assert strides(b) == strides(a)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_dlpack_with_torch(name, layout):
    torch = pytest.importorskip("torch")
    a = LAYOUTS[layout](sample(name))
    if any(s < 0 for s in a.strides):
        pytest.skip("PyTorch has no negative strides")
    t = wg.tensor(sample(name))
    theirs = torch.from_dlpack(wg.from_numpy(a))
    assert theirs.tolist() == a.tolist()
    ours = wg.from_dlpack(theirs)
    assert ours.tolist() == a.tolist()
    assert ours.dtype == name
    if a.size:
        assert theirs.data_ptr() == ours.data_ptr() == address(a)
    # written there, seen here
    shared = torch.from_dlpack(t)
    shared[0, 0] = True
    assert t[0, 0].item() == 1


def test_dlpack_versions():
    t = wg.ones((2,))
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0)))
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(2, 3)))
    assert '"dltensor"' in repr(t.__dlpack__())
    assert '"dltensor"' in repr(t.__dlpack__(max_version=(0, 8)))
    assert t.__dlpack_device__() == (1, 0)

    class Old:  # a producer from before version 1
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, stream=None):
            return self.x.__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    source = wg.arange(3.0)
    got = wg.from_dlpack(Old(source))
    assert got.tolist() == [0.0, 1.0, 2.0]
    assert got.data_ptr() == source.data_ptr()


def test_dlpack_copy_and_read_only():
    t = wg.ones((2,))
    before = t.version
    capsule = t.__dlpack__(copy=True, max_version=(1, 0))
    assert t.version == before
    del capsule
    copied = np.from_dlpack(t, copy=True)
    assert address(copied) != t.data_ptr()
    shared = np.from_dlpack(t, copy=False)
    assert address(shared) == t.data_ptr()
    assert t.version > before
    fixed = np.ones(2)
    fixed.flags.writeable = False
    ours = wg.from_numpy(fixed)
    assert not np.from_dlpack(ours).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        ours.__dlpack__()
    with pytest.raises(ValueError, match="read-only"):
        wg.from_dlpack(fixed).add_(1)


def test_dlpack_refusals():
    t = wg.ones((2,))
    with pytest.raises(BufferError, match="stream"):
        t.__dlpack__(stream=1)
    with pytest.raises(BufferError, match="CPU"):
        t.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError, match="from_dlpack"):
        wg.from_dlpack([1.0])
    with pytest.raises(TypeError, match=r"from_dlpack.*16 bits"):
        wg.from_dlpack(np.ones(2, np.float16))
    with pytest.raises(ValueError, match="10"):
        wg.from_dlpack(np.zeros((1,) * 11))

    class Broken:
        def __init__(self, result):
            self.result = result

        def __dlpack__(self, **_):
            return self.result

    used = t.__dlpack__()
    consumer = wg.from_dlpack(Broken(used))
    for result in (None, 3, "capsule", used):
        with pytest.raises((TypeError, ValueError, BufferError)):
            wg.from_dlpack(Broken(result))
    assert consumer.tolist() == [1.0, 1.0]


class DLTensor(ctypes.Structure):
    """The C structure that a capsule of DLPack points to, its owner's fields included."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class Claims:
    """A producer that says of six float32 numbers what it is told to."""

    def __init__(self, shape=(2, 3), strides=None, no_shape=False, **fields):
        self.memory = (ctypes.c_float * 6)(*range(6))
        self.c = DLTensor(ctypes.addressof(self.memory), 1, 0, len(shape), 2, 32, 1)
        if not no_shape:
            self.c.shape = (ctypes.c_int64 * len(shape))(*shape)
        if strides is not None:
            self.c.strides = (ctypes.c_int64 * len(strides))(*strides)
        for name, value in fields.items():
            setattr(self.c, name, value)

    def __dlpack__(self, **_):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.c), b"dltensor", None)


LIES = {
    "a negative size": (dict(shape=(-2, 3)), "negative size"),
    "too many elements": (dict(shape=(2**40, 2**40)), "2"),
    "strides past all memory": (dict(strides=(2**62, 1)), "beyond all memory"),
    "strides before all memory": (dict(strides=(-(2**60), 1)), "beyond all memory"),
    "no memory": (dict(data=None), "NULL"),
    "an address between elements": (dict(byte_offset=2), "aligned"),
    "a negative number of axes": (dict(ndim=-1), "-1 dimensions"),
    "eleven axes": (dict(ndim=11), "11 dimensions"),
    "no shape": (dict(no_shape=True), "no shape"),
    "a device that is none": (dict(device_type=77), "device type 77"),
    "vectors": (dict(lanes=4), "4 lanes"),
    "complex numbers": (dict(code=5, bits=64), "64 bits"),
    "bools that are none": (dict(code=6, bits=8, byte_offset=2), "bools"),
}


@pytest.mark.parametrize("name", LIES)
def test_dlpack_lies_are_refused(name):
    claims, text = LIES[name]
    producer = Claims(**claims)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=text):
        wg.from_dlpack(producer)


def test_dlpack_as_claimed():
    """What the lies above would be without the lie."""

    def taken(**claims):
        producer = Claims(**claims)  # owns the memory
        return wg.from_dlpack(producer).tolist()

    assert taken() == [[0, 1, 2], [3, 4, 5]]
    assert taken(shape=(3, 2), strides=(1, 3)) == [[0, 3], [1, 4], [2, 5]]
    assert taken(shape=(5,), byte_offset=4) == [1, 2, 3, 4, 5]
    assert taken(shape=(0, 3), strides=(2**62, 1), data=None) == []


def interface(**claims):
    memory = (ctypes.c_float * 6)(*range(6))

    class Array:
        def __init__(self):
            self.memory = memory
            self.__array_interface__ = {
                "version": 3,
                "shape": (6,),
                "typestr": "<f4",
                "data": (ctypes.addressof(memory), False),
                **claims,
            }

    return Array()


@pytest.mark.parametrize(
    "claims",
    [
        dict(shape=(-1,)),
        dict(shape=(2, 3), strides=(4,)),
        dict(shape=(6,), strides=(3,)),
        dict(shape="abc"),
        dict(typestr="<f3"),
        dict(typestr=">f4"),
        dict(data=None, shape=(2**62, 8)),
        dict(data=("x", False)),
        dict(data=(0, False), typestr="|b1", shape=(-5,)),
    ],
    ids=str,
)
def test_lies_of_the_array_interface_are_refused(claims):
    with pytest.raises((ValueError, TypeError, OverflowError, BufferError)):
        wg.from_numpy(interface(**claims))
    assert wg.from_numpy(interface()).tolist() == [0, 1, 2, 3, 4, 5]


def test_lists_that_change_while_they_are_read():
    """Other threads run meanwhile: an error or numbers that were there, never memory of others."""
    rows = [[float(i)] * 64 for i in range(2_000)]
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for row in rows[::7]:
                row.pop()
                row.append(1.0)
            rows.append(rows.pop(0))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            try:
                x = wg.tensor(rows)
            except ValueError:
                continue
            assert x.min().item() >= 0 and x.max().item() < 2_000
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([[True, False], [False, True]], "bool"),
        ([[True, 2], [3, 4]], "int64"),
        ([[True, 2], [3, 4.5]], "float32"),
        (([1, 2], (3, 4)), "int64"),
        ([[[1.5]], [[2]]], "float32"),
        ([2**62, -(2**63)], "int64"),
    ],
    ids=str,
)
def test_lists_of_numbers_take_the_narrowest_dtype(data, dtype):
    x = wg.tensor(data)
    assert x.dtype.name.startswith(dtype)
    np.testing.assert_array_equal(x.numpy(), np.array(data))


def test_dlpack_lifetimes():
    gc.collect()
    start = wg.memory_allocated()
    # never consumed
    for version in (None, (1, 0)):
        capsule = wg.ones((1000,)).__dlpack__(max_version=version)
        assert wg.memory_allocated() > start
        del capsule
        assert wg.memory_allocated() == start
    # the producer goes first
    t = wg.full((1000,), 3.0)
    a = np.from_dlpack(t)
    del t
    junk = [wg.zeros((1000,)) for _ in range(5)]
    assert a.sum() == 3000
    del a, junk
    assert wg.memory_allocated() == start
    # the consumer goes first
    t = wg.full((1000,), 3.0)
    a = np.from_dlpack(t)
    del a
    assert t.sum().item() == 3000
    del t
    assert wg.memory_allocated() == start
    # through several hands
    t = wg.from_dlpack(np.from_dlpack(wg.from_dlpack(np.from_dlpack(wg.full((1000,), 2.0)))))
    assert t.sum().item() == 2000
    del t
    assert wg.memory_allocated() == start


def test_dlpack_memory_of_torch_outlives_it():
    torch = pytest.importorskip("torch")
    ours = wg.from_dlpack(torch.full((1000,), 3.0))
    junk = [torch.zeros(1000) for _ in range(5)]
    assert ours.sum().item() == 3000
    with pytest.raises((BufferError, RuntimeError)):
        wg.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="from_dlpack"):
        wg.from_dlpack(torch.ones(2).half())
    del junk


# ---- tensor() copies, asarray() does not where it can


def test_tensor_copies_and_asarray_shares():
    a = np.zeros(3)
    copied, shared = wg.tensor(a), wg.asarray(a)
    a[0] = 1
    assert copied.tolist() == [0.0] * 3
    assert shared.tolist() == [1.0, 0.0, 0.0]
    t = wg.ones((2,))
    assert wg.asarray(t).data_ptr() == t.data_ptr()
    assert wg.tensor(t).data_ptr() != t.data_ptr()
    assert wg.asarray(a, dtype="float32").dtype == wg.float32
    assert wg.asarray([[1, 2]]).shape == (1, 2)
    x = wg.ones((2,)).requires_grad_()
    assert wg.asarray(x).requires_grad
    assert not wg.tensor(x).requires_grad


def test_float64_of_numpy_and_of_tensors_in_lists():
    x = wg.tensor(np.array([1e300]))
    assert wg.tensor([x, x]).tolist() == [[1e300], [1e300]]
    assert wg.full((1,), np.float64(1e300)).tolist() == [1e300]
    assert wg.where(wg.tensor([True]), np.float64(1e300), np.float64(0)).tolist() == [1e300]
    # Beside a tensor it is the Python float that it also is.
    assert (wg.ones((1,)) * np.float64(2)).dtype == wg.float32
    assert wg.ones((1,), dtype=float).dtype == wg.float64
    assert wg.ones((1,), dtype=int).dtype == wg.int64
    assert wg.ones((1,)).astype(float).dtype == wg.float64


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, "int64", ()),
        (1.5, "float32", ()),
        (True, "bool", ()),
        ([], "float32", (0,)),
        ([[]], "float32", (1, 0)),
        ([1, 2.5], "float32", (2,)),
        ([[1, 2], [3, 4]], "int64", (2, 2)),
        ([True, False], "bool", (2,)),
        ((1, 2), "int64", (2,)),
        (range(3), "int64", (3,)),
        (np.float32(2), "float32", ()),
        (np.arange(3, dtype=np.int32), "int32", (3,)),
        ([np.array([1.0, 2.0]), np.array([3.0, 4.0])], "float64", (2, 2)),
        (np.float64(1e300), "float64", ()),
        ([np.float64(1e300), 0.1], "float64", (2,)),
        ([[0.1], (np.float64(1e300),)], "float64", (2, 1)),
        ([np.array(1e300), 1], "float64", (2,)),
        ([np.float32(0.5), 2.5], "float32", (2,)),
        ([np.int32(1), 2.5], "float32", (2,)),
        ([np.array([1], "i4"), np.array([2], "i4")], "int32", (2, 1)),
    ],
    ids=repr,
)
def test_what_tensor_makes_of_data(data, dtype, shape):
    t = wg.tensor(data)
    assert t.shape == shape
    assert t.dtype == dtype
    assert wg.asarray(data).dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.asarray(data))


def test_masked_arrays_do_not_lose_their_mask_silently():
    a = np.ma.array([1.0, 2.0], mask=[False, True])
    for make in (wg.tensor, wg.asarray, wg.from_numpy):
        with pytest.raises((TypeError, ValueError), match=r"mask"):
            make(a)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: wg.tensor(1.5), "tensor(1.5)"),
        (lambda: wg.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: wg.tensor([1, 2]), "tensor([1, 2])"),
        (lambda: wg.tensor([True, False]), "tensor([ True, False])"),
        (lambda: wg.zeros((0, 3)), "tensor([], shape=(0, 3))"),
        (lambda: wg.ones((2,), "float64"), "tensor([1., 1.], dtype=float64)"),
        (lambda: wg.ones((1,)).requires_grad_(), "tensor([1.], requires_grad=True)"),
        (lambda: wg.ones((1,)).requires_grad_() * 2, "tensor([2.], made_by=mul)"),
        (lambda: wg.tensor([float("nan"), float("inf")]), "tensor([nan, inf])"),
        (lambda: wg.tensor([1.0, 2.0], requires_grad=True).sum(), "tensor(3., made_by=sum)"),
    ],
)
@pytest.mark.smoke
def test_repr(make, text):
    assert repr(make()) == text
    assert str(make()) == text


def test_repr_of_many_elements_is_short():
    assert len(repr(wg.zeros((1000, 1000)))) < 2000
    assert "..." in repr(wg.zeros((1000,)))


# ---- copies


@pytest.mark.smoke
def test_copies_of_tensors():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    y = copy.deepcopy(x)
    assert y.tolist() == [1.0, 2.0]
    assert y.requires_grad
    assert y.is_leaf
    assert y.data_ptr() != x.data_ptr()
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]
    assert copy.copy(x).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64", "uint8", "bool"])
def test_pickles_keep_values_dtype_and_requires_grad(dtype, protocol):
    x = wg.tensor([[0, 1], [1, 0]], dtype=dtype).T
    x = wg.Tensor(x, requires_grad=x.dtype.is_floating_point)
    y = pickle.loads(pickle.dumps(x, protocol))
    assert type(y) is wg.Tensor and y.dtype == x.dtype and y.is_leaf
    assert y.tolist() == x.tolist() and y.requires_grad == x.requires_grad
    assert pickle.loads(pickle.dumps(wg.zeros((0, 3)), protocol)).shape == (0, 3)
    assert pickle.loads(pickle.dumps(wg.tensor(1.5), protocol)).item() == 1.5
    assert copy.deepcopy(x.dtype) == x.dtype == pickle.loads(pickle.dumps(x.dtype))


def test_a_pickle_holds_a_safetensors_file_that_is_checked():
    data = pickle.dumps(wg.arange(8.0))
    _, (cls, held, requires_grad, device), _ = wg.arange(8.0).__reduce_ex__(4)
    assert held in data and (cls, requires_grad, device) == (wg.Tensor, False, "cpu")
    at = data.index(held) + len(held) - 2
    with pytest.raises(wg.io.FileError, match="checksum of 'x' does not match"):
        pickle.loads(data[:at] + b"!" + data[at + 1 :])
    with pytest.raises(wg.io.FileError, match="form in which wengert writes"):
        wg.io._unpickled(dict, held, False, "cpu")
    x = wg.tensor([1.0], requires_grad=True)
    with pytest.raises(wg.GradientError, match=r"made by 'mul'.*pickle x\.detach\(\)"):
        pickle.dumps(x * 2)


class Net(nn.Module):
    def __init__(self):
        self.first, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.tied = self.first.weight
        self.step = wg.compile(self.forward)
        self.calls = 0

    def forward(self, x):
        return wg.relu(self.norm(self.first(x)))


def test_modules_and_optimizers_are_pickled_whole():
    net = Net()
    net.norm.eval()
    net.first.bias.requires_grad = False
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    x = wg.rand((5, 3))

    def step(net, optimizer):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()

    step(net, optimizer)
    for copied in (
        lambda both: pickle.loads(pickle.dumps(both)),
        copy.deepcopy,
    ):
        other, of_other = copied((net, optimizer))
        assert other.tied is other.first.weight and type(other.tied) is nn.Parameter
        assert other.training and not other.norm.training
        assert not other.first.bias.requires_grad and other.first.weight.requires_grad
        assert [n for n, _ in other.named_buffers()] == [n for n, _ in net.named_buffers()]
        assert of_other.param_groups[0]["params"][0] is other.first.weight
        of_other.param_groups[0]["lr"] = 0.05
        assert of_other.param_groups[0].options.tolist()[0] == 0.05
        of_other.lr = 0.1
        np.testing.assert_array_equal(other.step(x).numpy(), net(x).detach().numpy())
        same = copy.deepcopy((net, optimizer))
        step(*same)
        step(other, of_other)
        for (name, a), b in zip(
            same[0].state_dict().items(), other.state_dict().values(), strict=True
        ):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


@pytest.mark.parametrize("average", [None, optim.get_ema_avg_fn(0.9)])
def test_averaged_models_are_pickled(average):
    net = nn.Linear(2, 2)
    mean = optim.AveragedModel(net, avg_fn=average)
    mean.update_parameters(net)
    other = pickle.loads(pickle.dumps(mean))
    with wg.no_grad():
        net.weight.add_(1.0)
    for each in (mean, other):
        each.update_parameters(net)
    assert other.module.weight.tolist() == mean.module.weight.tolist()


def test_generators_and_compiled_steps_are_pickled():
    generator = wg.Generator(3)
    wg.rand(2, generator=generator)
    other = pickle.loads(pickle.dumps(generator))
    assert wg.rand(4, generator=generator).tolist() == wg.rand(4, generator=other).tolist()
    assert pickle.loads(pickle.dumps(doubled)) is doubled  # by its name
    assert copy.deepcopy(doubled) is doubled


@wg.compile
def doubled(x):
    return x * 2


@pytest.mark.slow
def test_ray_takes_tensors_modules_and_optimizers():
    ray = pytest.importorskip("ray", reason="pip install ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        net, x = nn.Linear(3, 2), wg.rand((4, 3))

        @ray.remote
        def gradients(net, x):
            net(x).square().sum().backward()
            return [p.grad for p in net.parameters()]

        far = ray.get(gradients.remote(net, x))
        net(x).square().sum().backward()
        for a, b in zip(far, net.parameters(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.grad.numpy())
        other, adam = ray.get(ray.put((net, optim.Adam(net.parameters()))))
        assert adam.param_groups[0]["params"][0] is other.weight
        assert other.weight.tolist() == net.weight.tolist()
    finally:
        ray.shutdown()


def test_another_process_gets_a_module_and_gives_a_tensor():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    net = nn.Linear(3, 2)
    x = wg.rand((4, 3))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        y = pool.submit(nn.functional.linear, x, net.weight, net.bias)
        with pytest.raises(wg.GradientError, match="pickle: the tensor"):
            y.result(60)
        y = pool.submit(wg.matmul, x, net.weight.detach().T).result(60)
    np.testing.assert_array_equal(y.numpy(), (x @ net.weight.T).detach().numpy())
