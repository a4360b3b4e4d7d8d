"""
The compiled core of Wengert. Use the package wengert, which re-exports it.
"""
from __future__ import annotations
import collections.abc
from collections.abc import Sequence
import builtins
import typing
import typing_extensions
from numpy import ndarray
from .random import Generator
import wengert.order
__all__: list[str] = ['DType', 'DTypeError', 'DeviceError', 'GradientError', 'HookHandle', 'OutOfMemoryError', 'ShapeError', 'Tensor', 'abs', 'acos', 'acosh', 'adadelta_step', 'adagrad_step', 'adam_step', 'adamax_step', 'add', 'all', 'any', 'arange', 'argmax', 'argmin', 'asarray', 'asgd_step', 'asin', 'asinh', 'atan', 'atan2', 'atanh', 'attention_weights', 'backward', 'bfloat16', 'binary_cross_entropy_with_logits_elements', 'bitwise_and', 'bitwise_left_shift', 'bitwise_or', 'bitwise_right_shift', 'bitwise_xor', 'bool_', 'broadcast_to', 'cache_limit', 'ceil', 'clamp', 'clip_grad_norm_step', 'concatenate', 'copysign', 'cos', 'cosh', 'cross_entropy_rows', 'cuda_fusion_status', 'cuda_status', 'cummax', 'cummin', 'cumprod', 'cumsum', 'diagonal', 'diff', 'digamma', 'div', 'elu', 'embedding', 'empty', 'empty_cache', 'empty_like', 'eq', 'erf', 'erfinv', 'exp', 'exp2', 'expm1', 'eye', 'flatten', 'float32', 'float64', 'floor', 'floor_divide', 'fmod', 'from_dlpack', 'from_numpy', 'full', 'full_like', 'gather', 'ge', 'gelu', 'grad', 'gt', 'hardswish', 'hardtanh', 'hypot', 'index_add', 'index_copy', 'index_fill', 'index_reduce', 'index_select', 'int32', 'int64', 'is_grad_enabled', 'isfinite', 'isinf', 'isnan', 'layer_norm', 'le', 'leaky_relu', 'lgamma', 'linear', 'linspace', 'lion_step', 'log', 'log10', 'log1p', 'log2', 'log_softmax', 'logaddexp', 'logcumsumexp', 'logical_and', 'logical_not', 'logical_or', 'logical_xor', 'logsumexp', 'lt', 'masked_fill', 'masked_scatter', 'masked_select', 'matmul', 'max', 'maximum', 'mean', 'memory_allocated', 'memory_cached', 'memory_peak', 'min', 'minimum', 'mish', 'mul', 'nadam_step', 'nan_to_num', 'ne', 'neg', 'nextafter', 'nonzero', 'num_threads', 'one_hot', 'ones', 'ones_like', 'ops', 'permute', 'polygamma', 'pow', 'prod', 'put', 'radam_step', 'reciprocal', 'relu', 'remainder', 'reset_memory_peak', 'reshape', 'rmsprop_step', 'round', 'rprop_step', 'rsqrt', 'scatter', 'scatter_add', 'scatter_reduce', 'set_cache_limit', 'set_grad_enabled', 'set_nan_watch', 'set_num_threads', 'sgd_step', 'sigmoid', 'sign', 'signbit', 'silu', 'simd_level', 'sin', 'sinh', 'softmax', 'softplus', 'split', 'sqrt', 'square', 'squeeze', 'stack', 'std', 'sub', 'sum', 'swapaxes', 'take', 'take_along_axis', 'take_along_dim', 'tan', 'tanh', 'tensor', 'transpose', 'trunc', 'uint8', 'unsqueeze', 'var', 'where', 'xlogy', 'zeros', 'zeros_like']
Operand: typing.TypeAlias = "Tensor | int | float | bool | ndarray[typing.Any, typing.Any]"
class OutOfMemoryError(MemoryError):
    pass
class GradientError(RuntimeError):
    pass
class DeviceError(RuntimeError):
    pass
class DTypeError(TypeError):
    pass
class ShapeError(ValueError):
    pass
class DType:
    """
    An element type.
    """
    def __eq__(self, arg0: typing.Any) -> bool:
        ...
    def __hash__(self) -> int:
        ...
    def __reduce__(self) -> str:
        ...
    def __repr__(self) -> str:
        ...
    @property
    def is_floating_point(self) -> bool:
        ...
    @property
    def itemsize(self) -> int:
        """
        Bytes an element.
        """
    @property
    def name(self) -> str:
        ...
class Tensor:
    """
    An n-dimensional array that remembers how it was made, where a gradient may be asked for.
    """
    @staticmethod
    def _repr_html_(x: Tensor) -> str:
        """
        Shape, dtype, device and history; the values as a table, a map or an image; statistics.
        
            No value is read while a step is traced; where values cannot be read, the error's text says why.
            
        """
    @staticmethod
    def allclose(a: Tensor, b: Tensor, rtol: builtins.float = 1e-05, atol: builtins.float = 1e-08, equal_nan: builtins.bool = False) -> builtins.bool:
        """
        Whether all elements are close: see isclose. testing.assert_close says which are not.
        """
    @staticmethod
    def bmm(a: Tensor, b: Tensor) -> Tensor:
        """
        Matrices times as many: (n, i, j), (n, j, k).
        """
    @staticmethod
    def cross(a: Tensor, b: Tensor, axis: builtins.int = -1) -> Tensor:
        """
        Vector products of vectors of 3 elements along an axis; the others broadcast.
        """
    @staticmethod
    def dot(a: Tensor, b: Tensor) -> Tensor:
        """
        The sum of the products of two vectors.
        """
    @staticmethod
    def ger(a: Tensor, b: Tensor) -> Tensor:
        """
        outer, by PyTorch's former name.
        """
    @staticmethod
    def inner(a: Tensor, b: Tensor) -> Tensor:
        """
        Sums of products over the last axes of both; the product where one is a number.
        """
    @staticmethod
    def isclose(a: Tensor, b: Tensor, rtol: builtins.float = 1e-05, atol: builtins.float = 1e-08, equal_nan: builtins.bool = False) -> Tensor:
        """
        |a - b| <= atol + rtol * |b|, or equal infinities; NaN is close to NaN if equal_nan.
        """
    @staticmethod
    def kron(a: Tensor, b: Tensor) -> Tensor:
        """
        Kronecker's product: b times each element of a, at its place.
        """
    @staticmethod
    def lerp(start: Tensor, end: Tensor, weight: builtins.float | Tensor) -> Tensor:
        """
        start + weight * (end - start), exact at both ends.
        """
    @staticmethod
    def mm(a: Tensor, b: Tensor) -> Tensor:
        """
        A matrix times a matrix.
        """
    @staticmethod
    def multinomial(probs: Tensor, num_samples: builtins.int, replacement: builtins.bool = False, generator: Generator | None = None) -> Tensor:
        """
        Indices, int64, each with a probability proportional to probs (n,) or (rows, n): num_samples
        of them, of each row; without replacement no index twice.
        
        Whose exponential number of rate p comes first is drawn: Efraimidis and Spirakis 2006.
        """
    @staticmethod
    def mv(a: Tensor, b: Tensor) -> Tensor:
        """
        A matrix times a vector.
        """
    @staticmethod
    def outer(a: Tensor, b: Tensor) -> Tensor:
        """
        Each element of a times each of b, (a.size, b.size).
        """
    @staticmethod
    def vdot(a: Tensor, b: Tensor) -> Tensor:
        """
        dot, by another name.
        """
    def __abs__(self) -> Tensor:
        ...
    def __add__(self, other: Operand) -> Tensor:
        ...
    def __and__(self, other: Operand) -> Tensor:
        ...
    def __array__(self, dtype: DType | str | None = None, copy: typing.Any = None) -> typing.Any:
        ...
    def __array_function__(self, func: typing.Any, types: typing.Any, args: typing.Any, kwargs: typing.Any) -> typing.Any:
        """
        np.concatenate([x, y]) is wengert.concatenate([x, y]).
        """
    def __array_ufunc__(self, ufunc: typing.Any, method: str, *inputs: typing.Any, **kwargs: typing.Any) -> typing.Any:
        """
        np.exp(x) is wengert.exp(x).
        """
    def __bool__(self) -> builtins.bool:
        ...
    def __contains__(self, value: typing.Any) -> builtins.bool:
        """
        `value in x`: is any element equal to it? As in NumPy, for any number of axes.
        """
    def __copy__(self) -> Tensor:
        """
        A leaf over the same memory, no gradient.
        """
    def __deepcopy__(self, memo: typing.Any) -> Tensor:
        """
        Its own memory, no gradient; so copy.deepcopy(model.state_dict()) keeps the best weights.
        """
    def __divmod__(self, other: Operand) -> Tensor:
        """
        (x // y, x % y).
        """
    def __dlpack__(self, *, stream: typing.Any = None, max_version: typing.Any = None, dl_device: typing.Any = None, copy: typing.Any = None) -> typing_extensions.CapsuleType:
        ...
    def __dlpack_device__(self) -> tuple[builtins.int, int]:
        ...
    def __eq__(self, other: object) -> Tensor: # type: ignore[override]
        ...
    def __float__(self) -> builtins.float:
        ...
    def __floordiv__(self, other: Operand) -> Tensor:
        ...
    def __format__(self, spec: str) -> str:
        """
        f"{loss:.4f}" for a tensor of one element; f"{x}" is repr(x).
        """
    def __ge__(self, other: Operand) -> Tensor:  # type: ignore[misc]
        ...
    def __getitem__(self, key: typing.Any) -> Tensor:
        ...
    def __gt__(self, other: Operand) -> Tensor:  # type: ignore[misc]
        ...
    def __hash__(self) -> builtins.int:
        """
        Return hash(self).
        """
    def __iadd__(self, other: Operand) -> Tensor:
        ...
    def __iand__(self, other: Operand) -> Tensor:
        ...
    def __ifloordiv__(self, other: Operand) -> Tensor:
        ...
    def __imatmul__(self, other: Operand) -> Tensor:
        ...
    def __imod__(self, other: Operand) -> Tensor:
        ...
    def __imul__(self, other: Operand) -> Tensor:
        ...
    def __index__(self) -> typing.Any:
        ...
    def __init__(self, data: Tensor, requires_grad: builtins.bool = False) -> None:
        """
        A leaf that shares the memory of `data`. To make tensors from values use wengert.tensor().
        """
    def __int__(self) -> typing.Any:
        ...
    def __invert__(self) -> Tensor:
        ...
    def __ior__(self, other: Operand) -> Tensor:
        ...
    def __ipow__(self, other: Operand, modulo: typing.Any = None) -> Tensor:
        ...
    def __isub__(self, other: Operand) -> Tensor:
        ...
    def __iter__(self) -> collections.abc.Iterator[Tensor]:
        ...
    def __itruediv__(self, other: Operand) -> Tensor:
        ...
    def __ixor__(self, other: Operand) -> Tensor:
        ...
    def __le__(self, other: Operand) -> Tensor:  # type: ignore[misc]
        ...
    def __len__(self) -> builtins.int:
        ...
    def __lshift__(self, other: Operand) -> Tensor:
        ...
    def __lt__(self, other: Operand) -> Tensor:  # type: ignore[misc]
        ...
    def __matmul__(self, other: Operand) -> Tensor:
        ...
    def __mod__(self, other: Operand) -> Tensor:
        ...
    def __mul__(self, other: Operand) -> Tensor:
        ...
    def __ne__(self, other: object) -> Tensor: # type: ignore[override]
        ...
    def __neg__(self) -> Tensor:
        ...
    def __or__(self, other: Operand) -> Tensor:
        ...
    def __pos__(self) -> Tensor:
        ...
    def __pow__(self, other: Operand, modulo: typing.Any = None) -> Tensor:
        ...
    def __radd__(self, other: Operand) -> Tensor:
        ...
    def __rand__(self, other: Operand) -> Tensor:
        ...
    def __rdivmod__(self, other: Operand) -> Tensor:
        ...
    def __reduce_ex__(self, protocol: typing.Any) -> tuple[typing.Any, ...]:
        """
        For pickle: the bytes of a safetensors file. Files are for wengert.save, whose reader runs no
            code; a pickle's can.
        """
    def __repr__(self) -> str:
        """
        Values as NumPy prints them, then dtype (unless it is the usual one) and history.
        """
    def __rfloordiv__(self, other: Operand) -> Tensor:
        ...
    def __rlshift__(self, other: Operand) -> Tensor:
        ...
    def __rmatmul__(self, other: Operand) -> Tensor:
        ...
    def __rmod__(self, other: Operand) -> Tensor:
        ...
    def __rmul__(self, other: Operand) -> Tensor:
        ...
    def __ror__(self, other: Operand) -> Tensor:
        ...
    def __round__(self, digits: builtins.int | None = None) -> Tensor:
        """
        round(x), round(x, 2): half to even, computed as NumPy does it.
        """
    def __rpow__(self, other: Operand, modulo: typing.Any = None) -> Tensor:
        ...
    def __rrshift__(self, other: Operand) -> Tensor:
        ...
    def __rshift__(self, other: Operand) -> Tensor:
        ...
    def __rsub__(self, other: Operand) -> Tensor:
        ...
    def __rtruediv__(self, other: Operand) -> Tensor:
        ...
    def __rxor__(self, other: Operand) -> Tensor:
        ...
    def __setitem__(self, key: typing.Any, value: typing.Any) -> None:
        ...
    def __sub__(self, other: Operand) -> Tensor:
        ...
    def __truediv__(self, other: Operand) -> Tensor:
        ...
    def __xor__(self, other: Operand) -> Tensor:
        ...
    def abs(self) -> Tensor:
        """
        abs(x). Gradient: dx = g * sign(x).
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.abs(wg.tensor(-0.5)).item(), 4)
        0.5
        """
    def acos(self) -> Tensor:
        """
        acos(x). Gradient: dx = -g / sqrt((1 - x) * (1 + x)). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.acos(wg.tensor(-0.5)).item(), 4)
        2.0944
        """
    def acosh(self) -> Tensor:
        """
        acosh(x). Gradient: dx = g / (sqrt(x - 1) * sqrt(x + 1)). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.acosh(wg.tensor(1.5)).item(), 4)
        0.9624
        """
    def add(self, other: Operand) -> Tensor:
        """
        a + b. Gradient: da = g, db = g.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.add(0.5, 2).item(), 4)
        2.5
        """
    def add_(self, other: Operand) -> typing.Any:
        """
        Adds `other`, which broadcasts, in place; DTypeError where the sum has another dtype.
        """
    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, value: builtins.float = 1) -> Tensor:
        """
        x + value * tensor1 / tensor2
        """
    def addcmul(self, tensor1: Tensor, tensor2: Tensor, value: builtins.float = 1) -> Tensor:
        """
        x + value * tensor1 * tensor2
        """
    def addmm(self, mat1: Tensor, mat2: Tensor, beta: builtins.float = 1, alpha: builtins.float = 1) -> Tensor:
        """
        beta * x + alpha * mat1 @ mat2; where beta is 0, without x.
        """
    def addmv(self, mat: Tensor, vec: Tensor, beta: builtins.float = 1, alpha: builtins.float = 1) -> Tensor:
        """
        beta * x + alpha * mat @ vec; where beta is 0, without x.
        """
    def all(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Is no element zero?
        """
    def aminmax(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> tuple[Tensor, Tensor]:
        """
        (min, max) over axes, or all; with these names.
        """
    def any(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Is any element not zero?
        """
    def argmax(self, axis: typing.SupportsInt | typing.SupportsIndex | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Index of the first largest along an axis, or, without one, in x as one row; int64. ValueError of no elements.
        
        >>> wg.argmax(wg.tensor([3.0, 7.0, 7.0])).item()
        1
        """
    def argmin(self, axis: typing.SupportsInt | typing.SupportsIndex | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Index of the first smallest along an axis, or, without one, in x as one row; int64.
        """
    def argsort(self, axis: builtins.int = -1, descending: builtins.bool = False, stable: builtins.bool = False) -> Tensor:
        """
        The indices that sort() gives, int64.
        """
    def asin(self) -> Tensor:
        """
        asin(x). Gradient: dx = g / sqrt((1 - x) * (1 + x)). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.asin(wg.tensor(-0.5)).item(), 4)
        -0.5236
        """
    def asinh(self) -> Tensor:
        """
        asinh(x). Gradient: dx = g / sqrt(x ** 2 + 1). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.asinh(wg.tensor(-0.5)).item(), 4)
        -0.4812
        """
    def astype(self, dtype: DType | str | None) -> Tensor:
        """
        The tensor in another dtype, as to(); itself if it has that.
        """
    def atan(self) -> Tensor:
        """
        atan(x). Gradient: dx = g / (1 + x * x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.atan(wg.tensor(-0.5)).item(), 4)
        -0.4636
        """
    def atan2(self, other: Operand) -> Tensor:
        """
        atan2(a, b); the angle of the point (b, a), from -pi to pi. Gradient: da = g * b / (a ** 2 + b ** 2), db = -g * a / (a ** 2 + b ** 2). Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.atan2(0.5, 2).item(), 4)
        0.245
        """
    def atanh(self) -> Tensor:
        """
        atanh(x). Gradient: dx = g / ((1 - x) * (1 + x)). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.atanh(wg.tensor(-0.5)).item(), 4)
        -0.5493
        """
    def backward(self, gradient: typing.Any = None, retain_graph: typing.Any = None, create_graph: builtins.bool = False, inputs: typing.Any = None) -> None:
        """
        Adds d(self)/d(leaf) to the `grad` of every leaf that requires one.
        
        gradient: the cotangent, of self's shape; may be left out where self has one element.
        retain_graph: keep what the lines saved, to walk them again.
        create_graph: record the backward lines too, for gradients of gradients.
        inputs: a tensor or a list of them, whose `grad` alone is added to.
        Raises GradientError where there is no history, or it was freed, or a saved value was changed in place; ShapeError for a cotangent of another shape.
        
        >>> w = wg.tensor([1.0, 2.0], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> w.grad
        tensor([2., 4.])
        """
    def baddbmm(self, batch1: Tensor, batch2: Tensor, beta: builtins.float = 1, alpha: builtins.float = 1) -> Tensor:
        """
        beta * x + alpha * batch1 @ batch2, of as many matrices; where beta is 0, without x.
        """
    def bernoulli_(self, p: builtins.float | Tensor = 0.5, generator: Generator | None = None) -> Tensor:
        """
        Fills x with 1, with probability p, and 0; returns x.
        """
    def bfloat16(self) -> Tensor:
        """
        to("bfloat16")
        """
    def bincount(self, weights: Tensor | None = None, minlength: builtins.int = 0) -> Tensor:
        """
        How often each of 0, 1, ... max(x) is in x (n,), or the sum of the weights there.
        
        int64; with weights their dtype, and float64 for others than float32. At least minlength
        elements. Raises ValueError where x has a negative element.
        """
    def bitwise_and(self, other: Operand) -> Tensor:
        """
        a & b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.bitwise_and(6, 3).item()
        2
        """
    def bitwise_left_shift(self, other: Operand) -> Tensor:
        """
        a << b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.bitwise_left_shift(6, 3).item()
        48
        """
    def bitwise_not(self) -> Tensor:
        """
        ~x, of integers and bool; no gradient.
        """
    def bitwise_or(self, other: Operand) -> Tensor:
        """
        a | b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.bitwise_or(6, 3).item()
        7
        """
    def bitwise_right_shift(self, other: Operand) -> Tensor:
        """
        a >> b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.bitwise_right_shift(6, 3).item()
        0
        """
    def bitwise_xor(self, other: Operand) -> Tensor:
        """
        a ^ b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.bitwise_xor(6, 3).item()
        5
        """
    def bool(self) -> Tensor:
        """
        to("bool")
        """
    def broadcast_to(self, shape: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the shape does not broadcast.
        """
    def ceil(self) -> Tensor:
        """
        ceil(x). Gradient: dx = 0. Integers stay as they are.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.ceil(wg.tensor(-0.5)).item(), 4)
        -0.0
        """
    def chunk(self, chunks: builtins.int, axis: builtins.int = 0) -> list[Tensor]:
        """
        x in at most `chunks` parts along an axis, of one size but for the last; views.
        
        As PyTorch's there may be fewer: 5 elements in 4 chunks are [2, 2, 1]. tensor_split() gives as
        many as asked for.
        """
    def clamp(self, min: typing.Any = None, max: typing.Any = None) -> Tensor:
        """
        x within [min, max]; gradient 1 at both ends.
        """
    def clamp_max(self, max: builtins.float | Tensor) -> Tensor:
        """
        x, and `max` where x is larger.
        """
    def clamp_min(self, min: builtins.float | Tensor) -> Tensor:
        """
        x, and `min` where x is smaller.
        """
    def clone(self) -> Tensor:
        """
        A copy with memory of its own; gradients pass through.
        """
    def contiguous(self) -> Tensor:
        """
        Itself if it is contiguous, else a copy.
        """
    def copy_(self, other: Operand) -> typing.Any:
        """
        Overwrites the elements with those of `other`, which broadcasts and is converted.
        """
    def copysign(self, other: Operand) -> Tensor:
        """
        copysign(a, b); |a| with the sign of b, which a zero and NaN have too. Gradient: da = g where a and b have one sign, -g where not, db = 0. Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.copysign(0.5, 2).item(), 4)
        0.5
        """
    def cos(self) -> Tensor:
        """
        cos(x); x in radians. Gradient: dx = -g * sin(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.cos(wg.tensor(-0.5)).item(), 4)
        0.8776
        """
    def cosh(self) -> Tensor:
        """
        cosh(x). Gradient: dx = g * sinh(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.cosh(wg.tensor(-0.5)).item(), 4)
        1.1276
        """
    def count_nonzero(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        How many elements are not 0, int64.
        """
    def cpu(self) -> Tensor:
        """
        to("cpu")
        """
    def cuda(self) -> Tensor:
        """
        to("cuda"): DeviceError where there is no GPU.
        """
    def cummax(self, axis: typing.SupportsInt | typing.SupportsIndex) -> wengert.order.ValuesAndIndices:
        """
        (values, indices) along an axis: the largest of x[0] to x[i], and where the last of equal ones is, int64. From the first NaN on NaN. The gradient goes to the indices.
        """
    def cummin(self, axis: typing.SupportsInt | typing.SupportsIndex) -> wengert.order.ValuesAndIndices:
        """
        (values, indices) along an axis: the smallest of x[0] to x[i], and where the last of equal ones is, int64. From the first NaN on NaN. The gradient goes to the indices.
        """
    def cumprod(self, axis: typing.SupportsInt | typing.SupportsIndex | None = None, dtype: DType | str | None = None) -> Tensor:
        """
        y[i] = x[0] * ... * x[i] along an axis, or, without one, in x as one row; dtypes as cumsum's. The gradient is right where x has zeros.
        """
    def cumsum(self, axis: typing.SupportsInt | typing.SupportsIndex | None = None, dtype: DType | str | None = None) -> Tensor:
        """
        y[i] = x[0] + ... + x[i] along an axis, or, without one, in x as one row.
        
        Gathered in float64, whatever the dtype; of ints and bools int64, unless dtype says otherwise: x is converted to it first.
        
        >>> wg.cumsum(wg.tensor([1, 2, 3]))
        tensor([1, 3, 6])
        """
    def data_ptr(self) -> builtins.int:
        """
        Address of the first element.
        """
    def deg2rad(self) -> Tensor:
        """
        Degrees in radians: x * pi / 180.
        """
    def detach(self) -> Tensor:
        """
        The same memory without history: no gradient passes.
        """
    def diag(self, diagonal: builtins.int = 0) -> Tensor:
        """
        Of a matrix its diagonal of this offset, a view; of a vector the matrix that has it.
        """
    def diag_embed(self, offset: builtins.int = 0, axis1: builtins.int = -2, axis2: builtins.int = -1) -> Tensor:
        """
        x's last axis as the diagonal of new axes axis1 and axis2, with zeros elsewhere.
        """
    def diagonal(self, offset: typing.SupportsInt | typing.SupportsIndex = 0, axis1: typing.SupportsInt | typing.SupportsIndex = 0, axis2: typing.SupportsInt | typing.SupportsIndex = 1) -> Tensor:
        """
        Elements i, i + offset of two axes, as the last axis; a view. IndexError for a missing axis.
        """
    def diff(self, n: typing.SupportsInt | typing.SupportsIndex = 1, axis: typing.SupportsInt | typing.SupportsIndex = -1, prepend: typing.Any = None, append: typing.Any = None) -> Tensor:
        """
        x[i + 1] - x[i] along an axis, n times over; of bools, whether they differ. prepend and append are joined to x first: tensors of as many axes, or numbers.
        """
    def digamma(self) -> Tensor:
        """
        The derivative of lgamma; polygamma(0, x). Integers become float32.
        """
    def div(self, other: Operand) -> Tensor:
        """
        a / b. Gradient: da = g / b, db = -g / b * a / b. Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.div(0.5, 2).item(), 4)
        0.25
        """
    def div_(self, other: Operand) -> typing.Any:
        """
        Divides by `other`, which broadcasts, in place; DTypeError for integers.
        """
    def double(self) -> Tensor:
        """
        to("float64")
        """
    def elu(self, alpha: typing.SupportsFloat | typing.SupportsIndex = 1.0) -> Tensor:
        """
        x where x > 0, else alpha * (exp(x) - 1); arXiv 1511.07289. Gradient: dx = g where x > 0, else g * alpha * exp(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.elu(wg.tensor(-0.5)).item(), 4)
        -0.3935
        """
    def eq(self, other: Operand) -> Tensor:
        """
        a == b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.eq(0.5, 2).item()
        False
        """
    def erf(self) -> Tensor:
        """
        erf(x). Gradient: dx = g * 2 / sqrt(pi) * exp(-x * x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.erf(wg.tensor(-0.5)).item(), 4)
        -0.5205
        """
    def erfc(self) -> Tensor:
        """
        1 - erf(x), exact where that is small.
        """
    def erfinv(self) -> Tensor:
        """
        erfinv(x); the inverse of erf: infinite at -1 and 1, NaN beyond. Gradient: dx = g * sqrt(pi) / 2 * exp(y * y). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.erfinv(wg.tensor(-0.5)).item(), 4)
        -0.4769
        """
    def exp(self) -> Tensor:
        """
        exp(x). Gradient: dx = g * y. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.exp(wg.tensor(-0.5)).item(), 4)
        0.6065
        """
    def exp2(self) -> Tensor:
        """
        2 ** x. Gradient: dx = g * log(2) * y. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.exp2(wg.tensor(-0.5)).item(), 4)
        0.7071
        """
    def expand(self, *args: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the shape does not broadcast.
        """
    def expand_as(self, other: Tensor) -> Tensor:
        """
        x.expand(other.shape): a view.
        """
    def expm1(self) -> Tensor:
        """
        exp(x) - 1; accurate near 0. Gradient: dx = g * (y + 1). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.expm1(wg.tensor(-0.5)).item(), 4)
        -0.3935
        """
    def exponential_(self, lambd: builtins.float = 1.0, generator: Generator | None = None) -> Tensor:
        """
        Fills x with numbers of density lambd · exp(-lambd · x); returns x.
        """
    def fill_(self, value: typing.Any) -> typing.Any:
        """
        Overwrites all elements with one value; DTypeError for a fraction in integers.
        """
    def flatten(self, start_axis: typing.SupportsInt | typing.SupportsIndex = 0, end_axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
        """
        The axes from start to end as one.
        """
    def flip(self, axis: builtins.int | Sequence[builtins.int] | None = None, *more: builtins.int) -> Tensor:
        """
        x with its elements in the opposite order along the axes, or all; a view, as NumPy's.
        """
    def fliplr(self) -> Tensor:
        """
        x with axis 1 in the opposite order; a view.
        """
    def flipud(self) -> Tensor:
        """
        x with axis 0 in the opposite order; a view.
        """
    def float(self) -> Tensor:
        """
        to("float32")
        """
    def float_power(self, exponent: builtins.float | Tensor) -> Tensor:
        """
        x ** exponent in float64.
        """
    def floor(self) -> Tensor:
        """
        floor(x). Gradient: dx = 0. Integers stay as they are.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.floor(wg.tensor(-0.5)).item(), 4)
        -1.0
        """
    def floor_divide(self, other: Operand) -> Tensor:
        """
        a // b. Gradient: da = 0, db = 0.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.floor_divide(0.5, 2).item(), 4)
        0.0
        """
    def fmod(self, other: Operand) -> Tensor:
        """
        fmod(a, b); the sign is a's, as in C. Gradient: da = g, db = -g * trunc(a / b).
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.fmod(0.5, 2).item(), 4)
        0.5
        """
    def frac(self) -> Tensor:
        """
        x - trunc(x): what follows the point, with the sign of x.
        """
    def gather(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor) -> Tensor:
        """
        y[i, j] = x[index[i, j], j] for axis 0, and so on: one element of x for each of the index, which has as many axes, none longer than x's but `axis`. IndexError for an index out of range; -1 is the last.
        """
    def ge(self, other: Operand) -> Tensor:
        """
        a >= b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.ge(0.5, 2).item()
        False
        """
    def gelu(self, approximate: str = 'none') -> Tensor:
        """
        x * P(normal < x), exactly (erf) or by a tanh. arXiv 1606.08415.
        """
    def geometric_(self, p: builtins.float, generator: Generator | None = None) -> Tensor:
        """
        Fills x with numbers of trials until the first success; returns x.
        """
    def gt(self, other: Operand) -> Tensor:
        """
        a > b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.gt(0.5, 2).item()
        False
        """
    def hardswish(self) -> Tensor:
        """
        x * clamp(x + 3, 0, 6) / 6; 0 up to -3. arXiv 1905.02244. Gradient: dx = g * (x / 3 + 1 / 2) where |x| < 3, g above. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.hardswish(wg.tensor(-0.5)).item(), 4)
        -0.2083
        """
    def hardtanh(self, min_val: typing.SupportsFloat | typing.SupportsIndex = -1.0, max_val: typing.SupportsFloat | typing.SupportsIndex = 1.0) -> Tensor:
        """
        x within [min_val, max_val]; gradient 0 at both ends. Integers become float32.
        """
    def heaviside(self, values: Tensor) -> Tensor:
        """
        0 where x < 0, 1 where x > 0, `values` where x is 0, NaN where it is NaN.
        """
    def histc(self, bins: builtins.int = 100, min: builtins.float = 0.0, max: builtins.float = 0.0) -> Tensor:
        """
        How many elements are in each of `bins` bins of one width from min to max; of x's dtype.
        
        If both are 0, between the least and the largest x. Others are not counted.
        """
    def histogram(self, bins: builtins.int | Tensor = 10, range: Sequence[builtins.float] | None = None, weight: Tensor | None = None, density: builtins.bool = False) -> wengert.order.Histogram:
        """
        How many elements, or what sum of their weights, is in each bin, and the bins' edges.
        
        bins      how many, of one width over `range` (from the least to the largest x), or their edges
        density   the counts over their sum and the bins' widths
        """
    def hypot(self, other: Operand) -> Tensor:
        """
        sqrt(a ** 2 + b ** 2). Gradient: da = g * a / hypot(a, b), db = g * b / hypot(a, b). Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.hypot(0.5, 2).item(), 4)
        2.0616
        """
    def index_add(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, *, alpha: typing.Any = 1) -> Tensor:
        """
        x with y[index[i]] += alpha * source[i] for axis 0, and so on; source has x's shape, with the index's size along the axis.
        """
    def index_add_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, *, alpha: typing.Any = 1) -> typing.Any:
        """
        index_add(), in place.
        """
    def index_copy(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor) -> Tensor:
        """
        x with y[index[i]] = source[i] for axis 0, and so on; of equal indices the last stays.
        """
    def index_copy_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor) -> typing.Any:
        """
        index_copy(), in place.
        """
    def index_fill(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, value: typing.Any) -> Tensor:
        """
        x with y[index[i]] = value for axis 0, and so on; one number.
        """
    def index_fill_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, value: typing.Any) -> typing.Any:
        """
        index_fill(), in place.
        """
    def index_reduce(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, reduce: str, *, include_self: builtins.bool = True) -> Tensor:
        """
        As index_add(), by a fold of scatter_reduce().
        """
    def index_reduce_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, reduce: str, *, include_self: builtins.bool = True) -> typing.Any:
        """
        index_reduce(), in place.
        """
    def index_select(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor) -> Tensor:
        """
        Slices of x along an axis, by an index of one axis; as x[index] for axis 0.
        """
    def int(self) -> Tensor:
        """
        to("int32")
        """
    def is_contiguous(self) -> builtins.bool:
        """
        Do the elements follow one another in memory, the last axis fastest?
        """
    def isfinite(self) -> Tensor:
        """
        Is it neither NaN nor an infinity?
        """
    def isinf(self) -> Tensor:
        """
        Is it an infinity?
        """
    def isnan(self) -> Tensor:
        """
        Is it NaN?
        """
    def item(self) -> typing.Any:
        """
        The one element, as a Python number.
        """
    def kthvalue(self, k: builtins.int, axis: builtins.int = -1, keepdims: builtins.bool = False) -> wengert.order.ValuesAndIndices:
        """
        The k-th smallest along an axis, k from 1 on, and its index.
        """
    def le(self, other: Operand) -> Tensor:
        """
        a <= b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.le(0.5, 2).item()
        True
        """
    def leaky_relu(self, negative_slope: typing.SupportsFloat | typing.SupportsIndex = 0.01) -> Tensor:
        """
        x where x > 0, else negative_slope * x. Gradient: dx = g where x > 0, else negative_slope * g. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.leaky_relu(wg.tensor(-0.5)).item(), 4)
        -0.005
        """
    def lgamma(self) -> Tensor:
        """
        lgamma(x); log(|gamma(x)|). Gradient: dx = g * digamma(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.lgamma(wg.tensor(-0.5)).item(), 4)
        1.2655
        """
    def log(self) -> Tensor:
        """
        log(x); natural. Gradient: dx = g / x. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.log(wg.tensor(0.5)).item(), 4)
        -0.6931
        """
    def log10(self) -> Tensor:
        """
        log10(x). Gradient: dx = g / (log(10) * x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.log10(wg.tensor(0.5)).item(), 4)
        -0.301
        """
    def log1p(self) -> Tensor:
        """
        log(1 + x); accurate near 0. Gradient: dx = g / (1 + x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.log1p(wg.tensor(-0.5)).item(), 4)
        -0.6931
        """
    def log2(self) -> Tensor:
        """
        log2(x). Gradient: dx = g / (log(2) * x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.log2(wg.tensor(0.5)).item(), 4)
        -1.0
        """
    def log_softmax(self, axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
        """
        log(softmax(x)) along an axis, stable; of x's shape, floating. IndexError for an axis that is not there.
        
        >>> wg.log_softmax(wg.tensor([0.0, 1000.0]))
        tensor([-1000.,     0.])
        """
    def logaddexp(self, other: Operand) -> Tensor:
        """
        log(exp(a) + exp(b)). Gradient: da = g * sigmoid(a - b), db = g * sigmoid(b - a). Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.logaddexp(0.5, 2).item(), 4)
        2.2014
        """
    def logcumsumexp(self, axis: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        """
        log(cumsum(exp(x))) along an axis, stable; floating. Infinite x get no NaN in the gradient: -inf has 0, and of several inf each has all that follows it.
        """
    def logical_and(self, other: Operand) -> Tensor:
        """
        Of truth values: not zero is true.
        """
    def logical_not(self) -> Tensor:
        """
        x == 0.
        """
    def logical_or(self, other: Operand) -> Tensor:
        """
        Of truth values: not zero is true.
        """
    def logical_xor(self, other: Operand) -> Tensor:
        """
        Of truth values: not zero is true.
        """
    def logit(self, eps: builtins.float | None = None) -> Tensor:
        """
        log(x / (1 - x)), of x within [eps, 1 - eps] where eps is given.
        """
    def logsumexp(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        log(sum(exp(x))) over the axes (all by default), stable; floating, shapes as sum's.
        
        >>> round(wg.logsumexp(wg.tensor([1000.0, 1000.0])).item(), 3)
        1000.693
        """
    def long(self) -> Tensor:
        """
        to("int64")
        """
    def lt(self, other: Operand) -> Tensor:
        """
        a < b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.lt(0.5, 2).item()
        True
        """
    def masked_fill(self, mask: Tensor, value: typing.Any) -> Tensor:
        """
        x with one number where the mask, which is bool and broadcasts, is true.
        """
    def masked_fill_(self, mask: Tensor, value: typing.Any) -> typing.Any:
        """
        masked_fill(), in place.
        """
    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """
        x with source's elements, in order, where the mask is true. It counts them, so a compiled step cannot hold it.
        """
    def masked_scatter_(self, mask: Tensor, source: Tensor) -> typing.Any:
        """
        masked_scatter(), in place.
        """
    def masked_select(self, mask: Tensor) -> Tensor:
        """
        x[mask], one axis, of an x and a bool mask that broadcast.
        """
    def matmul(self, other: Operand) -> Tensor:
        """
        Matrix product of the last two axes, (..., n, k) @ (..., k, m) -> (..., n, m); vectors and batches as in NumPy. ShapeError where the inner sizes differ, DTypeError for bools. Dtypes are promoted as in NumPy.
        
        >>> a, b = wg.ones((2, 3)), wg.ones((5, 3, 4))
        >>> wg.matmul(a, b).shape
        (5, 2, 4)
        >>> a @ wg.tensor([1.0, 2.0, 3.0])
        tensor([6., 6.])
        """
    def max(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Largest over the axes; NaN if there is one, and then all gradients are; ties share the gradient. Values alone, as in NumPy: argmax() gives their places.
        `values, indices = x.max(1)` and max(dim=1) are TypeErrors; x.max(1)[1] is the second of the values, as in NumPy. ValueError of no elements.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> x.max(axis=1), x.argmax(axis=1)
        (tensor([2., 5.]), tensor([1, 1]))
        """
    def maximum(self, other: Operand) -> Tensor:
        """
        max(a, b); NaN if either is. Gradient: da = 0.5 * g where a == b, else 0 where a < b, else g, db = 0.5 * g where a == b, else 0 where b < a, else g.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.maximum(0.5, 2).item(), 4)
        2.0
        """
    def mean(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Mean over the axes (all by default); of ints and bools float32. Shapes as sum's; NaN of no elements.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> x.mean(axis=1, keepdims=True)
        tensor([[1.5],
                [4. ]])
        """
    def median(self, axis: builtins.int | None = None, keepdims: builtins.bool = False) -> typing.Any:
        """
        The middle element of all, or along an axis, with its index: of an even number the lower of
        the two. NaN where there is one; median of nothing is NaN.
        
            values, indices = x.median(1)
        """
    def min(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Smallest over the axes; NaN if there is one, and then all gradients are; ties share the gradient. Values alone, as in NumPy: argmin() gives their places.
        `values, indices = x.min(1)` and min(dim=1) are TypeErrors; x.min(1)[1] is the second of the values, as in NumPy. ValueError of no elements.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> x.min(axis=0)
        tensor([1., 2.])
        """
    def minimum(self, other: Operand) -> Tensor:
        """
        min(a, b); NaN if either is. Gradient: da = 0.5 * g where a == b, else 0 where a > b, else g, db = 0.5 * g where a == b, else 0 where b > a, else g.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.minimum(0.5, 2).item(), 4)
        0.5
        """
    def mish(self) -> Tensor:
        """
        x * tanh(log(1 + exp(x))); arXiv 1908.08681. Gradient: dx = g * (t + x * (1 - t ** 2) * sigmoid(x)), t = tanh(log(1 + exp(x))). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.mish(wg.tensor(-0.5)).item(), 4)
        -0.2207
        """
    def mode(self, axis: builtins.int = -1, keepdims: builtins.bool = False) -> wengert.order.ValuesAndIndices:
        """
        The most frequent value along an axis, the smallest of several, and the index of its last
        occurrence.
        """
    def moveaxis(self, source: builtins.int | Sequence[builtins.int], destination: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        movedim, by NumPy's name.
        """
    def movedim(self, source: builtins.int | Sequence[builtins.int], destination: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        x with the axes `source` at the places `destination`, the others in their order; a view.
        """
    def mul(self, other: Operand) -> Tensor:
        """
        a * b. Gradient: da = g * b, db = g * a.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.mul(0.5, 2).item(), 4)
        1.0
        """
    def mul_(self, other: Operand) -> typing.Any:
        """
        Multiplies by `other`, which broadcasts, in place.
        """
    def nan_to_num(self, nan: typing.SupportsFloat | typing.SupportsIndex = 0.0, posinf: typing.SupportsFloat | typing.SupportsIndex | None = None, neginf: typing.SupportsFloat | typing.SupportsIndex | None = None) -> Tensor:
        """
        x with `nan` for NaN, and posinf and neginf for the infinities: None is the largest and the lowest number of the dtype. Gradient 0 there. Integers stay as they are.
        """
    def nanmean(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        The mean of the elements that are not NaN; NaN where there are none.
        """
    def nanmedian(self, axis: builtins.int | None = None, keepdims: builtins.bool = False) -> typing.Any:
        """
        median() of the elements that are not NaN; NaN where all are.
        """
    def nanquantile(self, q: builtins.float | Sequence[builtins.float] | Tensor, axis: builtins.int | None = None, keepdims: builtins.bool = False, interpolation: str = ...) -> Tensor:
        """
        quantile() of the elements that are not NaN; NaN where all are.
        """
    def nansum(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        The sum of the elements that are not NaN.
        """
    def narrow(self, axis: builtins.int, start: builtins.int, length: builtins.int) -> Tensor:
        """
        `length` elements along an axis, from `start` on; a view.
        """
    def ne(self, other: Operand) -> Tensor:
        """
        a != b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> wg.ne(0.5, 2).item()
        True
        """
    def neg(self) -> Tensor:
        """
        -x. Gradient: dx = -g.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.neg(wg.tensor(-0.5)).item(), 4)
        0.5
        """
    def nextafter(self, other: Operand) -> Tensor:
        """
        The number next to a, towards b. Gradient: da = g, db = 0. Integers become float32.
        """
    def nonzero(self) -> Tensor:
        """
        Places of the elements that are not zero: (count, ndim), int64.
        """
    def norm(self, p: builtins.float | str = ..., axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        sum(|x|^p)^(1 / p) over axes, or all; "fro" is p = 2. Gradient 0 where it is 0.
        
        Of elements always, as torch.norm, but "nuc": the sum of singular values. linalg.norm is
        NumPy's, of matrices where x is one.
        """
    def numel(self) -> builtins.int:
        """
        Number of elements.
        """
    def numpy(self, writable: builtins.bool = False) -> typing.Any:
        """
        A NumPy array over the same memory; read-only unless `writable`, which counts as a change in place.
        """
    def permute(self, *args: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        The axes in another order, each named once. A view.
        """
    def pin_memory(self) -> Tensor:
        """
        A copy in page-locked memory of the CPU, from which .to("cuda", non_blocking=True) does not wait.
        """
    def polygamma(self, n: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        """
        Derivative n of digamma, itself that of lgamma. Gradient: dx = g * polygamma(n + 1, x). Integers become float32.
        """
    def pow(self, other: Operand) -> Tensor:
        """
        a ** b. Gradient: da = g * b * a ** (b - 1), db = g * log(a) * a ** b.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.pow(0.5, 2).item(), 4)
        0.25
        """
    def prod(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Product over the axes (all by default). Shapes and dtypes as sum's.
        
        >>> wg.prod(wg.tensor([2.0, 3.0, 4.0])).item()
        24.0
        """
    def put(self, index: Tensor, source: Tensor, accumulate: builtins.bool = False) -> Tensor:
        """
        x with source's elements at places of the flattened x, or added there; as many as the index's.
        """
    def put_(self, index: Tensor, source: Tensor, accumulate: builtins.bool = False) -> typing.Any:
        """
        put(), in place.
        """
    def quantile(self, q: builtins.float | Sequence[builtins.float] | Tensor, axis: builtins.int | None = None, keepdims: builtins.bool = False, interpolation: str = ...) -> Tensor:
        """
        The q-quantile of all elements, or along an axis: a share q is below it. NaN if there is one.
        
        The rank q * (n - 1) is between two values: interpolation is "linear", "lower", "higher",
        "nearest" or "midpoint". Of several q the first axis of the result. Integers become float32.
        
            x.quantile([0.25, 0.75], axis=0)
        """
    def rad2deg(self) -> Tensor:
        """
        Radians in degrees: x * 180 / pi.
        """
    def ravel(self) -> Tensor:
        """
        x as one axis; a view where the strides allow it.
        """
    def reciprocal(self) -> Tensor:
        """
        1 / x. Gradient: dx = -g * y * y. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.reciprocal(wg.tensor(-0.5)).item(), 4)
        -2.0
        """
    def record_stream(self, stream: typing.Any) -> None:
        """
        Says that a stream works with this tensor's memory that is not the one for which it was made: once freed, it is not used again before that stream has done what it then has.
        """
    def register_hook(self, hook: collections.abc.Callable[..., typing.Any]) -> HookHandle:
        """
        Calls hook(gradient) when this tensor's gradient is complete; a tensor it returns takes the gradient's place.
        """
    def relu(self) -> Tensor:
        """
        max(x, 0). Gradient: dx = 0 where y <= 0, else g.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.relu(wg.tensor(-0.5)).item(), 4)
        0.0
        """
    def remainder(self, other: Operand) -> Tensor:
        """
        a % b; the sign is b's, as in Python. Gradient: da = g, db = -g * (a // b).
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.remainder(0.5, 2).item(), 4)
        0.5
        """
    def repeat(self, sizes: builtins.int | Sequence[builtins.int], *more: builtins.int) -> Tensor:
        """
        x, repeated along each axis, as PyTorch's repeat: x.repeat(2, 3). New axes come first.
        
        NumPy's, which repeats each element, is wengert.repeat, or x.repeat_interleave(n, axis).
        """
    def repeat_interleave(self, repeats: builtins.int | Sequence[builtins.int] | Tensor, axis: builtins.int | None = None) -> Tensor:
        """
        Each element repeated: [a, a, b, b]; along an axis each part of x, else of x as one axis.
        
        repeats   one number, or one for each part along the axis
        """
    def requires_grad_(self, requires_grad: builtins.bool = True) -> typing.Any:
        """
        Sets requires_grad, and returns the tensor; DTypeError unless it is floating.
        """
    def reshape(self, *args: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        The elements in another shape of as many; one size may be -1. A view where the strides allow it, else a copy. ShapeError where the numbers differ.
        """
    def reshape_as(self, other: Tensor) -> Tensor:
        """
        x.reshape(other.shape): a view where the strides allow it.
        """
    def retain_grad(self) -> None:
        """
        Asks backward() to keep the gradient of this tensor, which is no leaf, in `grad`.
        """
    def roll(self, shifts: builtins.int | Sequence[builtins.int], axis: builtins.int | Sequence[builtins.int] | None = None) -> Tensor:
        """
        x with elements moved on by `shifts`, those that leave the end coming in at the front.
        
        Without an axis x is rolled as one axis, and keeps its shape.
        """
    def rot90(self, k: builtins.int = 1, axes: Sequence[builtins.int] = (0, 1)) -> Tensor:
        """
        x turned by k quarters, from the first of two axes to the second; a view.
        """
    def round(self, decimals: builtins.int = 0) -> Tensor:
        """
        x rounded to `decimals`, halves to even, computed as NumPy does it; negative ones are of the
        digits before the point. Gradient: dx = 0. Integers stay as they are.
        
        DTypeError for integers and decimals other than 0.
        
        >>> wg.round(wg.tensor([0.5, 1.5, 2.25]), 1)
        tensor([0.5, 1.5, 2.2])
        """
    def rsqrt(self) -> Tensor:
        """
        1 / sqrt(x). Gradient: dx = g * -0.5 * y * y * y. Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.rsqrt(wg.tensor(0.5)).item(), 4)
        1.4142
        """
    def scatter(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, *, reduce: str | None = None) -> Tensor:
        """
        x with y[index[i, j], j] = src[i, j] for axis 0, and so on: the reverse of gather(). src: of x's dtype and at least the index's shape, or a number. Of values for one place the last stays; reduce 'add' or 'multiply' takes in all.
        """
    def scatter_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, *, reduce: str | None = None) -> typing.Any:
        """
        scatter(), in place.
        """
    def scatter_add(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any) -> Tensor:
        """
        x with y[index[i, j], j] += src[i, j] for axis 0, and so on, in order: the same bits for any number of threads.
        """
    def scatter_add_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any) -> typing.Any:
        """
        scatter_add(), in place.
        """
    def scatter_reduce(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, reduce: str, *, include_self: builtins.bool = True) -> Tensor:
        """
        As scatter_add(), by 'sum', 'prod', 'mean', 'amax' or 'amin' of x's element and its values; include_self=False: of the values alone, where there are any. Ties share the gradient.
        """
    def scatter_reduce_(self, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, reduce: str, *, include_self: builtins.bool = True) -> typing.Any:
        """
        scatter_reduce(), in place.
        """
    def select(self, axis: builtins.int, index: builtins.int) -> Tensor:
        """
        x[index] along an axis, which is gone; a view.
        """
    def sigmoid(self) -> Tensor:
        """
        1 / (1 + exp(-x)). Gradient: dx = g * y * (1 - y). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.sigmoid(wg.tensor(-0.5)).item(), 4)
        0.3775
        """
    def sign(self) -> Tensor:
        """
        sign(x). Gradient: dx = 0.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.sign(wg.tensor(-0.5)).item(), 4)
        -1.0
        """
    def signbit(self) -> Tensor:
        """
        Is the sign set, also of -0.0 and NaN? A bool tensor.
        """
    def silu(self) -> Tensor:
        """
        sigmoid(x) * x; also called swish. Gradient: dx = g * s * (1 + x * (1 - s)), s = sigmoid(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.silu(wg.tensor(-0.5)).item(), 4)
        -0.1888
        """
    def sin(self) -> Tensor:
        """
        sin(x); x in radians. Gradient: dx = g * cos(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.sin(wg.tensor(-0.5)).item(), 4)
        -0.4794
        """
    def sinc(self) -> Tensor:
        """
        sin(pi x) / (pi x), and 1 at 0.
        """
    def sinh(self) -> Tensor:
        """
        sinh(x). Gradient: dx = g * cosh(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.sinh(wg.tensor(-0.5)).item(), 4)
        -0.5211
        """
    def softmax(self, axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
        """
        exp(x) / sum(exp(x)) along an axis, stable; of x's shape, floating. IndexError for an axis that is not there.
        
        >>> wg.softmax(wg.tensor([[0.0, 0.0], [1.0, 1.0]]), axis=1)
        tensor([[0.5, 0.5],
                [0.5, 0.5]])
        """
    def softplus(self) -> Tensor:
        """
        log(1 + exp(x)). Gradient: dx = g * sigmoid(x). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.softplus(wg.tensor(-0.5)).item(), 4)
        0.4741
        """
    def sort(self, axis: builtins.int = -1, descending: builtins.bool = False, stable: builtins.bool = False) -> wengert.order.ValuesAndIndices:
        """
        x in order along an axis, and the indices; always stable. NaN is the largest.
        """
    def split(self, split_size: typing.Any, axis: typing.SupportsInt | typing.SupportsIndex = 0) -> list[Tensor]:
        """
        Views of x, end to end along an axis: of split_size elements each (the last may have fewer), or of the given sizes.
        """
    def sqrt(self) -> Tensor:
        """
        sqrt(x). Gradient: dx = g / (2 * y). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.sqrt(wg.tensor(0.5)).item(), 4)
        0.7071
        """
    def square(self) -> Tensor:
        """
        x * x. Gradient: dx = 2 * g * x.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.square(wg.tensor(-0.5)).item(), 4)
        0.25
        """
    def squeeze(self, axis: builtins.int | Sequence[builtins.int] | None = None) -> Tensor:
        """
        Without the named axes, or all, of size one; a view. ShapeError for an axis of another size.
        """
    def std(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False, correction: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> Tensor:
        """
        Square root of var(); gradient 0 where all elements are equal.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> wg.std(x, axis=0)
        tensor([1. , 1.5])
        """
    def stride(self) -> tuple[builtins.int, ...]:
        """
        Elements from one place to the next, by axis.
        """
    def sub(self, other: Operand) -> Tensor:
        """
        a - b. Gradient: da = g, db = -g.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.sub(0.5, 2).item(), 4)
        -1.5
        """
    def sub_(self, other: Operand) -> typing.Any:
        """
        Subtracts `other`, which broadcasts, in place.
        """
    def sum(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False) -> Tensor:
        """
        Sum over the axes (all by default). Gathered in float64, whatever the dtype; of ints and bools int64. IndexError for an axis that is not there.
        
        The result has x's shape without the axes; with keepdims they stay, of size 1.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> wg.sum(x, axis=0)
        tensor([4., 7.])
        >>> x.sum().item()
        11.0
        """
    def swapaxes(self, a: typing.SupportsInt | typing.SupportsIndex, b: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        """
        Axes a and b exchanged; a view. IndexError for an axis that is not there.
        """
    def t(self) -> Tensor:
        """
        The axes of a matrix exchanged; a vector or a number as it is. A view.
        """
    def take(self, index: Tensor) -> Tensor:
        """
        x's elements, counted as if it were flattened; of the index's shape.
        """
    def take_along_axis(self, index: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = -1) -> Tensor:
        """
        gather() of x and an index that broadcast to each other but along `axis`; None: of both flattened. NumPy's.
        """
    def take_along_dim(self, index: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None) -> Tensor:
        """
        take_along_axis(), with PyTorch's default axis.
        """
    def tan(self) -> Tensor:
        """
        tan(x); x in radians. Gradient: dx = g * (1 + y * y). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.tan(wg.tensor(-0.5)).item(), 4)
        -0.5463
        """
    def tanh(self) -> Tensor:
        """
        tanh(x). Gradient: dx = g * (1 - y * y). Integers become float32.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.tanh(wg.tensor(-0.5)).item(), 4)
        -0.4621
        """
    def tensor_split(self, indices_or_sections: builtins.int | Sequence[builtins.int] | Tensor, axis: builtins.int = 0) -> list[Tensor]:
        """
        x along an axis in parts, whose number is given, the first of them longer by one; or cut
        before the given indices. As numpy.array_split; views.
        """
    def tile(self, reps: builtins.int | Sequence[builtins.int], *more: builtins.int) -> Tensor:
        """
        x, repeated reps times along each axis, from the last: tile(x, (2, 3)) or tile(x, 2, 3).
        
        New axes come first, as many as reps has more than x.
        """
    def to(self, dtype_or_device: DType | str, non_blocking: builtins.bool = False) -> Tensor:
        """
        The tensor in another dtype or on another device; itself if it is there. non_blocking: from pinned memory, does not wait until the copy is made.
        """
    def tolist(self) -> typing.Any:
        """
        The elements as nested lists of Python numbers.
        """
    def topk(self, k: builtins.int, axis: builtins.int = -1, largest: builtins.bool = True, sorted: builtins.bool = True) -> wengert.order.ValuesAndIndices:
        """
        The k largest (or smallest) along an axis, in order, and their indices. NaN is the largest.
        
        Raises ValueError where the axis has fewer than k elements.
        
        >>> values, indices = wg.topk(wg.tensor([3.0, 9.0, 5.0]), 2)
        >>> values, indices
        (tensor([9., 5.]), tensor([1, 2]))
        """
    def trace(self, offset: builtins.int = 0) -> Tensor:
        """
        The sum of the diagonal of the last two axes.
        """
    def transpose(self, a: typing.SupportsInt | typing.SupportsIndex, b: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        """
        Axes a and b exchanged; a view. IndexError for an axis that is not there.
        """
    def tril(self, diagonal: builtins.int = 0) -> Tensor:
        """
        x (..., n, m) with zeros above the diagonal of this offset.
        """
    def triu(self, diagonal: builtins.int = 0) -> Tensor:
        """
        x (..., n, m) with zeros below the diagonal of this offset.
        """
    def trunc(self) -> Tensor:
        """
        trunc(x). Gradient: dx = 0. Integers stay as they are.
        
        The result has x's shape. DTypeError of what is no number.
        
        >>> round(wg.trunc(wg.tensor(-0.5)).item(), 4)
        -0.0
        """
    def type_as(self, other: Tensor) -> Tensor:
        """
        x with the dtype of another tensor.
        """
    def unbind(self, axis: builtins.int = 0) -> tuple[Tensor, ...]:
        """
        The parts of x along an axis, without the axis; views.
        """
    def unflatten(self, axis: builtins.int, sizes: Sequence[builtins.int]) -> Tensor:
        """
        An axis as several of these sizes, one of which may be -1.
        """
    def unique(self, sorted: builtins.bool = True, return_inverse: builtins.bool = False, return_counts: builtins.bool = False, axis: builtins.int | None = None) -> typing.Any:
        """
        The distinct elements, or slices along an axis, in ascending order; each NaN is distinct.
        
        With return_inverse also which of them each element of x is, with return_counts how many there
        are of each: (values, inverse, counts). A slice takes a sort for each of its elements.
        
            values, counts = x.unique(return_counts=True)
        """
    def unique_consecutive(self, return_inverse: builtins.bool = False, return_counts: builtins.bool = False, axis: builtins.int | None = None) -> typing.Any:
        """
        x without elements, or slices along an axis, that equal the one before; see unique().
        """
    def unsqueeze(self, axis: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        """
        With a new axis of size one in front of `axis`; a view.
        """
    def var(self, axis: builtins.int | Sequence[builtins.int] | None = None, keepdims: builtins.bool = False, correction: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> Tensor:
        """
        Mean squared distance from the mean, over n - correction. Shapes as sum's.
        
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> wg.var(x, axis=0)
        tensor([1.  , 2.25])
        """
    def view(self, *args: builtins.int | Sequence[builtins.int]) -> Tensor:
        """
        As reshape(), and never a copy: ShapeError where the strides do not allow it.
        """
    def view_as(self, other: Tensor) -> Tensor:
        """
        x.view(other.shape): a view, or a ShapeError.
        """
    def xlogy(self, other: Operand) -> Tensor:
        """
        a * log(b); 0 where a is 0, unless b is NaN. Gradient: da = g * log(b), db = g * a / b. Integers become float32.
        
        a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
        
        >>> round(wg.xlogy(0.5, 2).item(), 4)
        0.3466
        """
    def zero_(self) -> typing.Any:
        """
        Overwrites all elements with 0.
        """
    @property
    def T(self) -> Tensor:
        """
        The two axes of a matrix exchanged; a view. ShapeError unless there are two.
        """
    @property
    def device(self) -> str:
        """
        Where the memory is: "cpu", "cuda:0".
        """
    @property
    def dtype(self) -> DType:
        """
        Type of the elements.
        """
    @property
    def grad(self) -> Tensor | None:
        """
        The gradient that backward() gathered here, or None.
        """
    @grad.setter
    def grad(self, arg1: Tensor | None) -> None:
        ...
    @property
    def is_leaf(self) -> builtins.bool:
        """
        Whether it has no history: backward() gathers gradients there.
        """
    @property
    def itemsize(self) -> builtins.int:
        """
        Bytes an element.
        """
    @property
    def mT(self) -> Tensor:
        """
        The last two axes exchanged.
        """
    @property
    def made_by(self) -> typing.Any:
        """
        Name of the op that made it; None for what came from outside.
        """
    @property
    def nbytes(self) -> builtins.int:
        """
        Bytes of all elements.
        """
    @property
    def ndim(self) -> builtins.int:
        """
        Number of axes.
        """
    @property
    def requires_grad(self) -> builtins.bool:
        """
        Whether a gradient passes to it: asked for at a leaf, else inherited. May be set at a leaf.
        """
    @requires_grad.setter
    def requires_grad(self, arg1: builtins.bool) -> None:
        ...
    @property
    def shape(self) -> tuple[builtins.int, ...]:
        """
        Sizes by axis, a tuple.
        """
    @property
    def size(self) -> builtins.int:
        """
        Number of elements.
        """
    @property
    def version(self) -> builtins.int:
        """
        How often its memory was changed in place.
        """
class HookHandle:
    """
    What register_hook() returns.
    """
    def remove(self) -> None:
        """
        Takes the hook away.
        """
class _GradScope:
    def __enter__(self) -> typing.Any:
        ...
    def __exit__(self, kind: typing.Any = None, error: typing.Any = None, traceback: typing.Any = None) -> None:
        ...
    def __init__(self, value: builtins.bool) -> None:
        ...
class _Guards:
    """
    What a trace read of Python's state, with what it was.
    """
    def __init__(self) -> None:
        ...
    def add_call(self, arg0: typing.Any, arg1: typing.Any, arg2: str) -> None:
        """
        That function() is still equal to a result.
        """
    def add_cell(self, arg0: typing.Any, arg1: str) -> None:
        ...
    def add_dict(self, dict: typing.Any, keys: str, label: str, entries: list[typing.Any], of_object: builtins.bool) -> None:
        """
        entries: (key, what messages call it); a key may be absent. keys: which may not be added, "all" (and their order stays), "names" or none.
        """
    def add_function(self, arg0: typing.Any, arg1: str) -> None:
        ...
    def add_list(self, arg0: list[typing.Any], arg1: str) -> None:
        ...
    def add_object(self, arg0: typing.Any, arg1: str) -> None:
        """
        Its class, and which dict its attributes are in.
        """
    def add_tensor(self, arg0: Tensor, arg1: str) -> None:
        """
        Its requires_grad and its hooks.
        """
    def changed(self) -> typing.Any:
        """
        The first guard that fails, as text, or None.
        """
class _Recorder:
    """
    Which code runs between start and stop.
    """
    def __init__(self, refused: typing.Any, always: typing.Any, seed: typing.Any, library: str) -> None:
        ...
    def codes(self) -> list[typing.Any]:
        """
        [(code, its globals)]
        """
    def start(self) -> None:
        ...
    def stop(self) -> None:
        ...
    @property
    def refusal(self) -> str:
        """
        The last error raised, or nothing.
        """
class _Program:
    """
    A traced step; see wengert.compile.
    """
    def __init__(self, arguments: typing.Any) -> None:
        """
        For arguments like these.
        """
    def abandon(self, arguments: typing.Any) -> None:
        """
        For a step that raised: leaves get their gradients back.
        """
    def begin(self) -> None:
        ...
    def end(self) -> None:
        ...
    def escaped(self) -> str:
        """
        A tensor made by the step that is held outside it, as text; or an empty string.
        """
    def finish(self, outputs: typing.Any) -> None:
        ...
    def fits(self) -> builtins.bool:
        ...
    def improve(self, passes: Sequence[str], memory: builtins.bool = False, packing: builtins.bool = False, graph: builtins.bool = False, persistent: builtins.bool = False) -> None:
        """
        Runs the passes of these names, and makes the list ready to run.
        """
    def lines(self, improved: builtins.bool) -> list[typing.Any]:
        ...
    def repeats(self) -> builtins.bool:
        ...
    def run(self, arguments: typing.Any) -> typing.Any:
        ...
    def run_many(self, steps: typing.SupportsInt | typing.SupportsIndex, arguments: typing.Any) -> typing.Any:
        ...
    def settle(self, arguments: typing.Any) -> None:
        """
        What the step made and something outside holds gets its values, unless they depend on what the step changes outside.
        """
    def share_memory(self, other: _Program) -> None:
        """
        Between two programs of one step, of which only one runs at a time from now on.
        """
    def try_run(self, arguments: tuple[builtins.int, ...], guards: typing.Any, with_gradients: builtins.bool) -> typing.Any:
        """
        run(), or None where these arguments are not tensors like those of the trace, what it read has changed, or another step is being traced.
        """
    @property
    def arguments(self) -> typing.Any:
        """
        Its own, to trace the step with.
        """
    @property
    def memory(self) -> dict[str, int]:
        """
        Bytes of the arena, of what is kept beside it, and of all lines' results.
        """
    @property
    def on_gpu(self) -> builtins.bool:
        ...
    @property
    def replay(self) -> str:
        """
        On a GPU: how it is replayed. Else an empty string.
        """
class _Batching:
    """
    See wengert.vmap.
    """
    def __init__(self, size: typing.SupportsInt | typing.SupportsIndex, randomness: str) -> None:
        ...
    def all(self, one: Tensor) -> Tensor:
        """
        All examples, or None where they share it.
        """
    def begin(self) -> None:
        ...
    def end(self) -> None:
        ...
    def one(self, all: Tensor, argument: builtins.bool = True) -> Tensor:
        """
        One of these examples.
        """
    def stand_for(self, one: Tensor, all: Tensor) -> None:
        ...
    @property
    def randomness(self) -> str:
        ...
    @property
    def size(self) -> builtins.int:
        ...
class _Study:
    """
    A step traced for study; see wengert.trace.
    """
    def __init__(self, arguments: typing.Any, most_lines: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def __len__(self) -> builtins.int:
        ...
    def answers(self) -> list[typing.Any]:
        """
        (line, gradient, first, last, [(input, to, to_line, value)]) for each vjp.
        """
    def begin(self) -> None:
        ...
    def close(self, outputs: typing.Any) -> None:
        ...
    def end(self) -> None:
        ...
    def leaf_gradients(self) -> list[typing.Any]:
        ...
    def lines(self) -> list[typing.Any]:
        ...
    def looks(self) -> list[typing.Any]:
        ...
    def results(self) -> list[builtins.int]:
        ...
    def roots(self) -> list[typing.Any]:
        ...
    def set_layer(self, layer: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def value_of(self, tensor: Tensor) -> builtins.int:
        """
        The number of the value that lies where this tensor does; -1 where there is none.
        """
    def values(self) -> list[typing.Any]:
        ...
    @property
    def bytes(self) -> builtins.int:
        ...
class _Replica:
    """
    A study's memory, to run its lines on.
    """
    def __init__(self, study: _Study, wide: builtins.bool) -> None:
        ...
    def evaluate(self, line: typing.SupportsInt | typing.SupportsIndex, inputs: typing.Any) -> typing.Any:
        ...
    def plant(self, line: typing.SupportsInt | typing.SupportsIndex, op: str, inputs: Sequence[typing.SupportsInt | typing.SupportsIndex]) -> None:
        ...
    def reset(self) -> None:
        ...
    def run(self, line: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def run_all(self) -> list[builtins.float]:
        ...
    def value(self, number: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
        ...
class _SavedHooks:
    def __enter__(self) -> typing.Any:
        ...
    def __exit__(self, kind: typing.Any = None, error: typing.Any = None, traceback: typing.Any = None) -> None:
        ...
    def __init__(self, value: typing.Any) -> None:
        ...
class _CudaEvent:
    def __init__(self, timed: builtins.bool) -> None:
        ...
    def done(self, wait: builtins.bool) -> builtins.bool:
        ...
    def elapsed_time(self, end: _CudaEvent) -> builtins.float:
        ...
    def record(self, number: typing.SupportsInt | typing.SupportsIndex, stream: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def wait(self, number: typing.SupportsInt | typing.SupportsIndex, stream: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, scale: typing.SupportsFloat | typing.SupportsIndex | None = None) -> Tensor:
    """
    See wengert.scaled_dot_product_attention.
    """
def _batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: typing.SupportsFloat | typing.SupportsIndex) -> tuple[Tensor, Tensor]:
    """
    See wengert.batch_norm: in training; and mean and variance of channels.
    """
def _batching() -> typing.Any:
    """
    The innermost vmap that runs here, or None.
    """
def _bytes(x: Tensor) -> Tensor:
    """
    A contiguous tensor's memory as uint8.
    """
def _call_host(name: str, formula: str, function: typing.Any, operands: typing.Any, edited: typing.SupportsInt | typing.SupportsIndex, begins: bool = False, waits: bool = False, named: Sequence[tuple[str, typing.SupportsInt | typing.SupportsIndex]] = []) -> None:
    """
    Calls function(*operands), now and at each replay, as a line that overwrites the first `edited` operands. The tensors that it is given are its own until it returns.
    """
def _call_own(op: typing.SupportsInt | typing.SupportsIndex, inputs: typing.Any, make: collections.abc.Callable[..., typing.Any], backward: typing.Any, flops: typing.SupportsFloat | typing.SupportsIndex, bytes: typing.SupportsFloat | typing.SupportsIndex) -> list[Tensor]:
    """
    Calls make(), which gives (outputs, saved, differentiable, saves_output), and records its first output as op(inputs), with backward(g, saved, output) to write the gradients.
    """
def _convolution(by: str, x: Tensor, weight: Tensor, stride: Sequence[typing.SupportsInt | typing.SupportsIndex], before: Sequence[typing.SupportsInt | typing.SupportsIndex], after: Sequence[typing.SupportsInt | typing.SupportsIndex], dilation: Sequence[typing.SupportsInt | typing.SupportsIndex], groups: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    See wengert.conv2d.
    """
def _convolution_input(by: str, g: Tensor, weight: Tensor, size: Sequence[typing.SupportsInt | typing.SupportsIndex], stride: Sequence[typing.SupportsInt | typing.SupportsIndex], before: Sequence[typing.SupportsInt | typing.SupportsIndex], after: Sequence[typing.SupportsInt | typing.SupportsIndex], dilation: Sequence[typing.SupportsInt | typing.SupportsIndex], groups: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    See wengert.conv_transpose2d.
    """
def _copy_like(x: Tensor, dtype: DType | str | None) -> Tensor:
    ...
def _cuda_compile(source: str, architecture: str) -> tuple[bytes, str]:
    """
    Machine code (sm_90a) or PTX (compute_90) of a chain's kernel, and what NVRTC says of it.
    """
def _cuda_current_device() -> int:
    ...
def _cuda_default_stream(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_device_count() -> int:
    ...
def _cuda_device_name(number: typing.SupportsInt | typing.SupportsIndex) -> str:
    ...
def _cuda_empty_cache(number: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def _cuda_make_stream(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_matmul_units(number: typing.SupportsInt | typing.SupportsIndex) -> str:
    ...
def _cuda_memory_allocated(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_memory_cached(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_memory_peak(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_reset_memory_peak(number: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def _cuda_set_device(number: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def _cuda_set_stream(number: typing.SupportsInt | typing.SupportsIndex, stream: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def _cuda_stream(number: typing.SupportsInt | typing.SupportsIndex) -> int:
    ...
def _cuda_stream_done(number: typing.SupportsInt | typing.SupportsIndex, stream: typing.SupportsInt | typing.SupportsIndex, wait: bool) -> bool:
    ...
def _cuda_synchronize(number: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def _drop_grads(leaves: typing.Any) -> None:
    """
    Sets the `grad` of each to None.
    """
def _from_private(array: typing.Any) -> Tensor:
    """
    from_numpy(), of memory that no one else writes to: saved as it is.
    """
def _get_matmul_precision() -> str:
    ...
def _gradients_since(outputs: typing.Any, sources: typing.Any, cotangents: typing.Any, since: typing.SupportsInt | typing.SupportsIndex, create_graph: bool) -> list[Tensor]:
    ...
def _grads(leaves: typing.Any) -> list[Tensor]:
    """
    The `grad` of each, which may be None.
    """
def _huber(x: Tensor, delta: typing.SupportsFloat | typing.SupportsIndex) -> Tensor:
    """
    Element by element; see huber_loss.
    """
def _integers(state: Tensor, low: typing.SupportsInt | typing.SupportsIndex, high: typing.SupportsInt | typing.SupportsIndex, shape: int | Sequence[int], device: str | None = None) -> Tensor:
    """
    Whole numbers from low to high - 1; see wengert.randint.
    """
def _is_tracing() -> bool:
    """
    Whether a step is being traced here.
    """
def _max_pool(by: str, x: Tensor, size: Sequence[typing.SupportsInt | typing.SupportsIndex], stride: Sequence[typing.SupportsInt | typing.SupportsIndex], before: Sequence[typing.SupportsInt | typing.SupportsIndex], after: Sequence[typing.SupportsInt | typing.SupportsIndex], dilation: Sequence[typing.SupportsInt | typing.SupportsIndex]) -> tuple[Tensor, Tensor]:
    """
    The largest element of each window over the last axes, and where it is.
    """
def _native_op(capsule: typing_extensions.CapsuleType) -> collections.abc.Callable[..., typing.Any]:
    """
    The function of an op that another extension module defines.
    """
def _next_line() -> int:
    """
    The number that the next line gets.
    """
def _normal(state: Tensor, shape: int | Sequence[int], dtype: DType | str | None = None, device: str | None = None) -> Tensor:
    """
    Normal numbers; see wengert.randn.
    """
def _overlap_add(by: str, x: Tensor, whole: Sequence[typing.SupportsInt | typing.SupportsIndex], stride: Sequence[typing.SupportsInt | typing.SupportsIndex], dilation: Sequence[typing.SupportsInt | typing.SupportsIndex]) -> Tensor:
    """
    The sum of windows that _windows() made, in axes of sizes `whole`.
    """
def _own_op(name: str, operands: str, formula: str, gradients: Sequence[str]) -> int:
    """
    The number of an op of the program's own.
    """
def _pass_names() -> list[str]:
    """
    The names of the passes over a compiled step's list.
    """
def _permutation(state: Tensor, n: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    0 to n - 1 in random order; see wengert.randperm.
    """
def _recurrent(cell: str, operands: typing.Any, reverse: bool) -> Tensor:
    """
    See wengert.nn.LSTM.
    """
def _searchsorted(sorted: Tensor, values: typing.Any, right: bool) -> Tensor:
    """
    See wengert.searchsorted.
    """
def _set_matmul_precision(precision: str) -> None:
    ...
def _set_package_directory(path: str) -> None:
    ...
def _set_tile_use(use: str) -> None:
    """
    For tests: tiles where something is "gain"ed, "always", their "twin" in plain C++, "never".
    """
def _sort(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, first: typing.SupportsInt | typing.SupportsIndex, count: typing.SupportsInt | typing.SupportsIndex, descending: bool) -> tuple[Tensor, Tensor]:
    """
    Elements of ranks first to first + count along an axis, and their indices.
    """
def _sources(outputs: typing.Any, since: typing.SupportsInt | typing.SupportsIndex) -> list[Tensor]:
    """
    What gradients pass to from the lines of the outputs from number `since` on.
    """
def _strided(x: Tensor, shape: int | Sequence[int], strides: typing.Any, offset: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    A view of a tensor's memory. The caller has checked that it stays within.
    """
def _tile_status() -> str:
    """
    Whether the CPU's matrix tiles can be used, and if not, why; asks the system for them.
    """
def _times(a: Operand, b: Operand) -> Tensor:
    """
    a * b, and 0 where a is 0, even if b is infinite or NaN.
    """
def _type_dict(arg0: typing.Any) -> typing.Any:
    """
    The dict of a class, itself.
    """
def _uniform(state: Tensor, shape: int | Sequence[int], dtype: DType | str | None = None, device: str | None = None) -> Tensor:
    """
    Uniform numbers in [0, 1); see wengert.rand.
    """
def _watches_nan() -> bool:
    """
    Whether set_nan_watch is on.
    """
def _windows(by: str, x: Tensor, size: Sequence[typing.SupportsInt | typing.SupportsIndex], stride: Sequence[typing.SupportsInt | typing.SupportsIndex], dilation: Sequence[typing.SupportsInt | typing.SupportsIndex]) -> Tensor:
    """
    Windows over the last axes, which get axes of their own behind them; a view.
    """
def _with_draws(run: collections.abc.Callable[..., typing.Any]) -> tuple[typing.Any, list[tuple[Tensor, Tensor]]]:
    """
    run(), and of each random state that it drew from (state, a copy of what it was before).
    """
def abs(x: typing.Any) -> Tensor:
    """
    abs(x). Gradient: dx = g * sign(x).
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.abs(wg.tensor(-0.5)).item(), 4)
    0.5
    """
def acos(x: typing.Any) -> Tensor:
    """
    acos(x). Gradient: dx = -g / sqrt((1 - x) * (1 + x)). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.acos(wg.tensor(-0.5)).item(), 4)
    2.0944
    """
def acosh(x: typing.Any) -> Tensor:
    """
    acosh(x). Gradient: dx = g / (sqrt(x - 1) * sqrt(x + 1)). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.acosh(wg.tensor(1.5)).item(), 4)
    0.9624
    """
def adadelta_step(params: typing.Any, grads: typing.Any, square_avgs: typing.Any, acc_deltas: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, rho, eps, weight_decay = options; g = g + weight_decay * p; v = rho * v + (1 - rho) * g^2; d = sqrt(u + eps) / sqrt(v + eps) * g; u = rho * u + (1 - rho) * d^2; p = p - lr * d.
    options: float64 of shape (5,): lr, rho, eps, weight_decay, maximize; step: int64 of one element, counted up first.
    """
def adagrad_step(params: typing.Any, grads: typing.Any, sums: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, lr_decay, weight_decay, eps = options; g = g + weight_decay * p; s = s + g^2; p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps).
    options: float64 of shape (5,): lr, lr_decay, weight_decay, eps, maximize; step: int64 of one element, counted up first.
    """
def adam_step(params: typing.Any, grads: typing.Any, exp_avgs: typing.Any, exp_avg_sqs: typing.Any, max_exp_avg_sqs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
    options: float64 of shape (7,): lr, beta1, beta2, eps, weight_decay, decoupled, maximize; step: int64 of one element, counted up first.
    max_exp_avg_sqs: one for each parameter, or empty.
    """
def adamax_step(params: typing.Any, grads: typing.Any, exp_avgs: typing.Any, exp_infs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, b1, b2, eps, weight_decay = options; g = g + weight_decay * p; m = b1 * m + (1 - b1) * g; u = max(b2 * u, |g| + eps); p = p - lr / (1 - b1^t) * m / u.
    options: float64 of shape (6,): lr, beta1, beta2, eps, weight_decay, maximize; step: int64 of one element, counted up first.
    """
def add(a: Operand, b: Operand) -> Tensor:
    """
    a + b. Gradient: da = g, db = g.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.add(0.5, 2).item(), 4)
    2.5
    """
def all(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Is no element zero?
    """
def any(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Is any element not zero?
    """
def arange(start: typing.Any, stop: typing.Any = None, step: typing.Any = 1, dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    start, start + step, ... up to but without stop; int64 for integers, else float32.
    
    >>> wg.arange(2, 8, 2)
    tensor([2, 4, 6])
    """
def argmax(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None, keepdims: bool = False) -> Tensor:
    """
    Index of the first largest along an axis, or, without one, in x as one row; int64. ValueError of no elements.
    
    >>> wg.argmax(wg.tensor([3.0, 7.0, 7.0])).item()
    1
    """
def argmin(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None, keepdims: bool = False) -> Tensor:
    """
    Index of the first smallest along an axis, or, without one, in x as one row; int64.
    """
def asarray(data: typing.Any, dtype: DType | str | None = None) -> Tensor:
    """
    As tensor(), but without a copy where the memory can be shared.
    """
def asgd_step(params: typing.Any, grads: typing.Any, axs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lambd, weight_decay, eta, mu = options; g = g + weight_decay * p; p = (1 - lambd * eta) * p - eta * g; a = a + mu * (p - a).
    options: float64 of shape (5,): lambd, weight_decay, maximize, eta, mu; step: int64 of one element, counted up first.
    """
def asin(x: typing.Any) -> Tensor:
    """
    asin(x). Gradient: dx = g / sqrt((1 - x) * (1 + x)). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.asin(wg.tensor(-0.5)).item(), 4)
    -0.5236
    """
def asinh(x: typing.Any) -> Tensor:
    """
    asinh(x). Gradient: dx = g / sqrt(x ** 2 + 1). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.asinh(wg.tensor(-0.5)).item(), 4)
    -0.4812
    """
def atan(x: typing.Any) -> Tensor:
    """
    atan(x). Gradient: dx = g / (1 + x * x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.atan(wg.tensor(-0.5)).item(), 4)
    -0.4636
    """
def atan2(a: Operand, b: Operand) -> Tensor:
    """
    atan2(a, b); the angle of the point (b, a), from -pi to pi. Gradient: da = g * b / (a ** 2 + b ** 2), db = -g * a / (a ** 2 + b ** 2). Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.atan2(0.5, 2).item(), 4)
    0.245
    """
def atanh(x: typing.Any) -> Tensor:
    """
    atanh(x). Gradient: dx = g / ((1 - x) * (1 + x)). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.atanh(wg.tensor(-0.5)).item(), 4)
    -0.5493
    """
def attention_weights(query: Tensor, key: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, scale: typing.SupportsFloat | typing.SupportsIndex | None = None) -> Tensor:
    """
    The softmax inside scaled_dot_product_attention, (..., L, S), whole and in plain lines.
    """
def backward(outputs: typing.Any, gradients: typing.Any = None, retain_graph: typing.Any = None, create_graph: bool = False, inputs: typing.Any = None) -> None:
    """
    Tensor.backward() for several outputs in one walk; errors as there.
    
    >>> w = wg.tensor(2.0, requires_grad=True)
    >>> wg.backward([w * 3, w * w])
    >>> w.grad.item()
    7.0
    """
def binary_cross_entropy_with_logits_elements(logits: typing.Any, target: typing.Any) -> Tensor:
    """
    Element by element; see binary_cross_entropy_with_logits.
    """
def bitwise_and(a: Operand, b: Operand) -> Tensor:
    """
    a & b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.bitwise_and(6, 3).item()
    2
    """
def bitwise_left_shift(a: Operand, b: Operand) -> Tensor:
    """
    a << b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.bitwise_left_shift(6, 3).item()
    48
    """
def bitwise_or(a: Operand, b: Operand) -> Tensor:
    """
    a | b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.bitwise_or(6, 3).item()
    7
    """
def bitwise_right_shift(a: Operand, b: Operand) -> Tensor:
    """
    a >> b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.bitwise_right_shift(6, 3).item()
    0
    """
def bitwise_xor(a: Operand, b: Operand) -> Tensor:
    """
    a ^ b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.bitwise_xor(6, 3).item()
    5
    """
def broadcast_to(x: Tensor, shape: int | Sequence[int]) -> Tensor:
    """
    A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the shape does not broadcast.
    """
def cache_limit() -> int:
    """
    The most free bytes that are kept for reuse.
    """
def ceil(x: typing.Any) -> Tensor:
    """
    ceil(x). Gradient: dx = 0. Integers stay as they are.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.ceil(wg.tensor(-0.5)).item(), 4)
    -0.0
    """
def clamp(x: typing.Any, min: typing.Any = None, max: typing.Any = None) -> Tensor:
    """
    x within [min, max]; gradient 1 at both ends.
    """
def clip_grad_norm_step(grads: typing.Any, max_norm: typing.SupportsFloat | typing.SupportsIndex) -> Tensor:
    """
    Scales the gradients in place so that their joint 2-norm is at most max_norm; returns the norm before, float64.
    """
def concatenate(tensors: Sequence[Tensor], axis: typing.SupportsInt | typing.SupportsIndex = 0) -> Tensor:
    """
    Tensors end to end along an axis; the other sizes, and the dtypes' kind, must be equal. ShapeError where they are not.
    
    >>> wg.concatenate([wg.ones((2, 1)), wg.zeros((2, 1))], axis=1)
    tensor([[1., 0.],
            [1., 0.]])
    """
def copysign(a: Operand, b: Operand) -> Tensor:
    """
    copysign(a, b); |a| with the sign of b, which a zero and NaN have too. Gradient: da = g where a and b have one sign, -g where not, db = 0. Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.copysign(0.5, 2).item(), 4)
    0.5
    """
def cos(x: typing.Any) -> Tensor:
    """
    cos(x); x in radians. Gradient: dx = -g * sin(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.cos(wg.tensor(-0.5)).item(), 4)
    0.8776
    """
def cosh(x: typing.Any) -> Tensor:
    """
    cosh(x). Gradient: dx = g * sinh(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.cosh(wg.tensor(-0.5)).item(), 4)
    1.1276
    """
def cross_entropy_rows(logits: Tensor, target: Tensor) -> Tensor:
    """
    -log_softmax(logits)[target] for each row; see cross_entropy.
    """
def cuda_fusion_status() -> str:
    """
    Whether chains of a compiled step become one kernel on a GPU, and if not, why.
    """
def cuda_status() -> str:
    """
    Whether CUDA can be used, and if not, what is missing.
    """
def cummax(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex) -> wengert.order.ValuesAndIndices:
    """
    (values, indices) along an axis: the largest of x[0] to x[i], and where the last of equal ones is, int64. From the first NaN on NaN. The gradient goes to the indices.
    """
def cummin(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex) -> wengert.order.ValuesAndIndices:
    """
    (values, indices) along an axis: the smallest of x[0] to x[i], and where the last of equal ones is, int64. From the first NaN on NaN. The gradient goes to the indices.
    """
def cumprod(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None, dtype: DType | str | None = None) -> Tensor:
    """
    y[i] = x[0] * ... * x[i] along an axis, or, without one, in x as one row; dtypes as cumsum's. The gradient is right where x has zeros.
    """
def cumsum(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None, dtype: DType | str | None = None) -> Tensor:
    """
    y[i] = x[0] + ... + x[i] along an axis, or, without one, in x as one row.
    
    Gathered in float64, whatever the dtype; of ints and bools int64, unless dtype says otherwise: x is converted to it first.
    
    >>> wg.cumsum(wg.tensor([1, 2, 3]))
    tensor([1, 3, 6])
    """
def diagonal(x: Tensor, offset: typing.SupportsInt | typing.SupportsIndex = 0, axis1: typing.SupportsInt | typing.SupportsIndex = 0, axis2: typing.SupportsInt | typing.SupportsIndex = 1) -> Tensor:
    """
    Elements i, i + offset of two axes, as the last axis; a view. IndexError for a missing axis.
    """
def diff(x: typing.Any, n: typing.SupportsInt | typing.SupportsIndex = 1, axis: typing.SupportsInt | typing.SupportsIndex = -1, prepend: typing.Any = None, append: typing.Any = None) -> Tensor:
    """
    x[i + 1] - x[i] along an axis, n times over; of bools, whether they differ. prepend and append are joined to x first: tensors of as many axes, or numbers.
    """
def digamma(x: typing.Any) -> Tensor:
    """
    The derivative of lgamma; polygamma(0, x). Integers become float32.
    """
def div(a: Operand, b: Operand) -> Tensor:
    """
    a / b. Gradient: da = g / b, db = -g / b * a / b. Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.div(0.5, 2).item(), 4)
    0.25
    """
def elu(x: typing.Any, alpha: typing.SupportsFloat | typing.SupportsIndex = 1.0) -> Tensor:
    """
    x where x > 0, else alpha * (exp(x) - 1); arXiv 1511.07289. Gradient: dx = g where x > 0, else g * alpha * exp(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.elu(wg.tensor(-0.5)).item(), 4)
    -0.3935
    """
def embedding(ids: Tensor, weight: Tensor, padding_idx: typing.SupportsInt | typing.SupportsIndex | None = None) -> Tensor:
    """
    weight[ids]: rows of a table (rows, features), for integer ids of any shape, 0 to rows - 1.
    
    The row padding_idx gets no gradient. The result has the ids' shape and the features; IndexError for an id without a row.
    
    >>> wg.embedding(wg.tensor([1, 0]), wg.tensor([[0.5], [1.5]]))
    tensor([[1.5],
            [0.5]])
    """
def empty(shape: int | Sequence[int], dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    A shape whose elements have any values: to be overwritten.
    """
def empty_cache() -> None:
    """
    Gives the free bytes back to the system.
    """
def empty_like(x: Tensor, dtype: DType | str | None = None, requires_grad: bool = False) -> Tensor:
    """
    As x in shape, dtype and device, uninitialised.
    """
def eq(a: Operand, b: Operand) -> Tensor:
    """
    a == b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.eq(0.5, 2).item()
    False
    """
def erf(x: typing.Any) -> Tensor:
    """
    erf(x). Gradient: dx = g * 2 / sqrt(pi) * exp(-x * x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.erf(wg.tensor(-0.5)).item(), 4)
    -0.5205
    """
def erfinv(x: typing.Any) -> Tensor:
    """
    erfinv(x); the inverse of erf: infinite at -1 and 1, NaN beyond. Gradient: dx = g * sqrt(pi) / 2 * exp(y * y). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.erfinv(wg.tensor(-0.5)).item(), 4)
    -0.4769
    """
def exp(x: typing.Any) -> Tensor:
    """
    exp(x). Gradient: dx = g * y. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.exp(wg.tensor(-0.5)).item(), 4)
    0.6065
    """
def exp2(x: typing.Any) -> Tensor:
    """
    2 ** x. Gradient: dx = g * log(2) * y. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.exp2(wg.tensor(-0.5)).item(), 4)
    0.7071
    """
def expm1(x: typing.Any) -> Tensor:
    """
    exp(x) - 1; accurate near 0. Gradient: dx = g * (y + 1). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.expm1(wg.tensor(-0.5)).item(), 4)
    -0.3935
    """
def eye(n: typing.SupportsInt | typing.SupportsIndex, m: typing.Any = None, dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    n x m, ones on the diagonal.
    """
def flatten(x: Tensor, start_axis: typing.SupportsInt | typing.SupportsIndex = 0, end_axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
    """
    The axes from start to end as one.
    """
def floor(x: typing.Any) -> Tensor:
    """
    floor(x). Gradient: dx = 0. Integers stay as they are.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.floor(wg.tensor(-0.5)).item(), 4)
    -1.0
    """
def floor_divide(a: Operand, b: Operand) -> Tensor:
    """
    a // b. Gradient: da = 0, db = 0.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.floor_divide(0.5, 2).item(), 4)
    0.0
    """
def fmod(a: Operand, b: Operand) -> Tensor:
    """
    fmod(a, b); the sign is a's, as in C. Gradient: da = g, db = -g * trunc(a / b).
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.fmod(0.5, 2).item(), 4)
    0.5
    """
def from_dlpack(x: typing.Any) -> Tensor:
    """
    A tensor over the memory of any object with __dlpack__, without a copy.
    """
def from_numpy(array: typing.Any) -> Tensor:
    """
    A tensor over the array's memory, without a copy.
    """
def full(shape: int | Sequence[int], value: typing.Any, dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    A shape filled with one value, of the value's dtype unless dtype says otherwise; ShapeError for a value of several elements.
    """
def full_like(x: Tensor, value: typing.Any, dtype: DType | str | None = None, requires_grad: bool = False) -> Tensor:
    """
    As x in shape, dtype and device, filled with one number.
    """
def gather(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor) -> Tensor:
    """
    y[i, j] = x[index[i, j], j] for axis 0, and so on: one element of x for each of the index, which has as many axes, none longer than x's but `axis`. IndexError for an index out of range; -1 is the last.
    """
def ge(a: Operand, b: Operand) -> Tensor:
    """
    a >= b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.ge(0.5, 2).item()
    False
    """
def gelu(x: typing.Any, approximate: str = 'none') -> Tensor:
    """
    x * P(normal < x), exactly (erf) or by a tanh. arXiv 1606.08415.
    """
def grad(outputs: typing.Any, inputs: typing.Any, grad_outputs: typing.Any = None, retain_graph: typing.Any = None, create_graph: bool = False, allow_unused: bool = False) -> typing.Any:
    """
    Gradients of the outputs, weighted by grad_outputs and summed, with respect to the inputs; leaves' `grad` stays
    as it is. As torch.autograd.grad. Returns one tensor for one input, else a tuple.
    
    retain_graph is create_graph unless given. An input that was not used is an error, or None with allow_unused: GradientError. A gradient has its input's shape and dtype.
    
    >>> x = wg.tensor(3.0, requires_grad=True)
    >>> dx = wg.grad(x**3, x, create_graph=True)
    >>> dx.item(), wg.grad(dx, x).item()
    (27.0, 18.0)
    """
def gt(a: Operand, b: Operand) -> Tensor:
    """
    a > b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.gt(0.5, 2).item()
    False
    """
def hardswish(x: typing.Any) -> Tensor:
    """
    x * clamp(x + 3, 0, 6) / 6; 0 up to -3. arXiv 1905.02244. Gradient: dx = g * (x / 3 + 1 / 2) where |x| < 3, g above. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.hardswish(wg.tensor(-0.5)).item(), 4)
    -0.2083
    """
def hardtanh(x: typing.Any, min_val: typing.SupportsFloat | typing.SupportsIndex = -1.0, max_val: typing.SupportsFloat | typing.SupportsIndex = 1.0) -> Tensor:
    """
    x within [min_val, max_val]; gradient 0 at both ends. Integers become float32.
    """
def hypot(a: Operand, b: Operand) -> Tensor:
    """
    sqrt(a ** 2 + b ** 2). Gradient: da = g * a / hypot(a, b), db = g * b / hypot(a, b). Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.hypot(0.5, 2).item(), 4)
    2.0616
    """
def index_add(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, *, alpha: typing.Any = 1) -> Tensor:
    """
    x with y[index[i]] += alpha * source[i] for axis 0, and so on; source has x's shape, with the index's size along the axis.
    """
def index_copy(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor) -> Tensor:
    """
    x with y[index[i]] = source[i] for axis 0, and so on; of equal indices the last stays.
    """
def index_fill(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, value: typing.Any) -> Tensor:
    """
    x with y[index[i]] = value for axis 0, and so on; one number.
    """
def index_reduce(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """
    As index_add(), by a fold of scatter_reduce().
    """
def index_select(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor) -> Tensor:
    """
    Slices of x along an axis, by an index of one axis; as x[index] for axis 0.
    """
def is_grad_enabled() -> bool:
    """
    Whether operations are recorded in this thread.
    """
def isfinite(x: typing.Any) -> Tensor:
    """
    Is it neither NaN nor an infinity?
    """
def isinf(x: typing.Any) -> Tensor:
    """
    Is it an infinity?
    """
def isnan(x: typing.Any) -> Tensor:
    """
    Is it NaN?
    """
def layer_norm(x: Tensor, normalized_shape: typing.Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: typing.SupportsFloat | typing.SupportsIndex = 1e-05) -> Tensor:
    """
    (x - mean) / sqrt(var + eps) * weight + bias over x's last axes, which have normalized_shape; of x's shape. ShapeError where x has others. arXiv 1607.06450.
    
    >>> y = wg.layer_norm(wg.tensor([[1.0, 3.0], [2.0, 6.0]]), (2,))
    >>> [[round(v, 3) for v in row] for row in y.tolist()]
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
def le(a: Operand, b: Operand) -> Tensor:
    """
    a <= b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.le(0.5, 2).item()
    True
    """
def leaky_relu(x: typing.Any, negative_slope: typing.SupportsFloat | typing.SupportsIndex = 0.01) -> Tensor:
    """
    x where x > 0, else negative_slope * x. Gradient: dx = g where x > 0, else negative_slope * g. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.leaky_relu(wg.tensor(-0.5)).item(), 4)
    -0.005
    """
def lgamma(x: typing.Any) -> Tensor:
    """
    lgamma(x); log(|gamma(x)|). Gradient: dx = g * digamma(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.lgamma(wg.tensor(-0.5)).item(), 4)
    1.2655
    """
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """
    x @ weight.T + bias, for x (..., in), weight (out, in) and bias (out,): (..., out). ShapeError where the sizes differ.
    
    >>> wg.linear(wg.ones((5, 3)), wg.ones((2, 3)), wg.ones(2)).shape
    (5, 2)
    """
def linspace(start: typing.SupportsFloat | typing.SupportsIndex, stop: typing.SupportsFloat | typing.SupportsIndex, num: typing.SupportsInt | typing.SupportsIndex, dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    num numbers, evenly spaced from start to stop, both included.
    
    >>> wg.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
def lion_step(params: typing.Any, grads: typing.Any, exp_avgs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, b1, b2, weight_decay = options; p = p - lr * (sign(b1 * m + (1 - b1) * g) + weight_decay * p); m = b2 * m + (1 - b2) * g.
    options: float64 of shape (5,): lr, beta1, beta2, weight_decay, maximize; step: int64 of one element, counted up first.
    """
def log(x: typing.Any) -> Tensor:
    """
    log(x); natural. Gradient: dx = g / x. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.log(wg.tensor(0.5)).item(), 4)
    -0.6931
    """
def log10(x: typing.Any) -> Tensor:
    """
    log10(x). Gradient: dx = g / (log(10) * x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.log10(wg.tensor(0.5)).item(), 4)
    -0.301
    """
def log1p(x: typing.Any) -> Tensor:
    """
    log(1 + x); accurate near 0. Gradient: dx = g / (1 + x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.log1p(wg.tensor(-0.5)).item(), 4)
    -0.6931
    """
def log2(x: typing.Any) -> Tensor:
    """
    log2(x). Gradient: dx = g / (log(2) * x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.log2(wg.tensor(0.5)).item(), 4)
    -1.0
    """
def log_softmax(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
    """
    log(softmax(x)) along an axis, stable; of x's shape, floating. IndexError for an axis that is not there.
    
    >>> wg.log_softmax(wg.tensor([0.0, 1000.0]))
    tensor([-1000.,     0.])
    """
def logaddexp(a: Operand, b: Operand) -> Tensor:
    """
    log(exp(a) + exp(b)). Gradient: da = g * sigmoid(a - b), db = g * sigmoid(b - a). Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.logaddexp(0.5, 2).item(), 4)
    2.2014
    """
def logcumsumexp(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    log(cumsum(exp(x))) along an axis, stable; floating. Infinite x get no NaN in the gradient: -inf has 0, and of several inf each has all that follows it.
    """
def logical_and(a: Operand, b: Operand) -> Tensor:
    """
    Of truth values: not zero is true.
    """
def logical_not(x: typing.Any) -> Tensor:
    """
    x == 0.
    """
def logical_or(a: Operand, b: Operand) -> Tensor:
    """
    Of truth values: not zero is true.
    """
def logical_xor(a: Operand, b: Operand) -> Tensor:
    """
    Of truth values: not zero is true.
    """
def logsumexp(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    log(sum(exp(x))) over the axes (all by default), stable; floating, shapes as sum's.
    
    >>> round(wg.logsumexp(wg.tensor([1000.0, 1000.0])).item(), 3)
    1000.693
    """
def lt(a: Operand, b: Operand) -> Tensor:
    """
    a < b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.lt(0.5, 2).item()
    True
    """
def masked_fill(x: Tensor, mask: Tensor, value: typing.Any) -> Tensor:
    """
    x with one number where the mask, which is bool and broadcasts, is true.
    """
def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """
    x with source's elements, in order, where the mask is true. It counts them, so a compiled step cannot hold it.
    """
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """
    x[mask], one axis, of an x and a bool mask that broadcast.
    """
def matmul(a: Operand, b: Operand) -> Tensor:
    """
    Matrix product of the last two axes, (..., n, k) @ (..., k, m) -> (..., n, m); vectors and batches as in NumPy. ShapeError where the inner sizes differ, DTypeError for bools. Dtypes are promoted as in NumPy.
    
    >>> a, b = wg.ones((2, 3)), wg.ones((5, 3, 4))
    >>> wg.matmul(a, b).shape
    (5, 2, 4)
    >>> a @ wg.tensor([1.0, 2.0, 3.0])
    tensor([6., 6.])
    """
def max(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Largest over the axes; NaN if there is one, and then all gradients are; ties share the gradient. Values alone, as in NumPy: argmax() gives their places.
    `values, indices = x.max(1)` and max(dim=1) are TypeErrors; x.max(1)[1] is the second of the values, as in NumPy. ValueError of no elements.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> x.max(axis=1), x.argmax(axis=1)
    (tensor([2., 5.]), tensor([1, 1]))
    """
def maximum(a: Operand, b: Operand) -> Tensor:
    """
    max(a, b); NaN if either is. Gradient: da = 0.5 * g where a == b, else 0 where a < b, else g, db = 0.5 * g where a == b, else 0 where b < a, else g.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.maximum(0.5, 2).item(), 4)
    2.0
    """
def mean(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Mean over the axes (all by default); of ints and bools float32. Shapes as sum's; NaN of no elements.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> x.mean(axis=1, keepdims=True)
    tensor([[1.5],
            [4. ]])
    """
def memory_allocated() -> int:
    """
    Bytes in use by CPU tensors, other than those of up to 64 bytes each.
    """
def memory_cached() -> int:
    """
    Bytes that are free and kept for reuse.
    """
def memory_peak() -> int:
    """
    The most bytes that were in use since the start or the last reset_memory_peak().
    """
def min(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Smallest over the axes; NaN if there is one, and then all gradients are; ties share the gradient. Values alone, as in NumPy: argmin() gives their places.
    `values, indices = x.min(1)` and min(dim=1) are TypeErrors; x.min(1)[1] is the second of the values, as in NumPy. ValueError of no elements.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> x.min(axis=0)
    tensor([1., 2.])
    """
def minimum(a: Operand, b: Operand) -> Tensor:
    """
    min(a, b); NaN if either is. Gradient: da = 0.5 * g where a == b, else 0 where a > b, else g, db = 0.5 * g where a == b, else 0 where b > a, else g.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.minimum(0.5, 2).item(), 4)
    0.5
    """
def mish(x: typing.Any) -> Tensor:
    """
    x * tanh(log(1 + exp(x))); arXiv 1908.08681. Gradient: dx = g * (t + x * (1 - t ** 2) * sigmoid(x)), t = tanh(log(1 + exp(x))). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.mish(wg.tensor(-0.5)).item(), 4)
    -0.2207
    """
def mul(a: Operand, b: Operand) -> Tensor:
    """
    a * b. Gradient: da = g * b, db = g * a.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.mul(0.5, 2).item(), 4)
    1.0
    """
def nadam_step(params: typing.Any, grads: typing.Any, exp_avgs: typing.Any, exp_avg_sqs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, b1, b2, eps, weight_decay, momentum_decay = options; mu_t = b1 * (1 - 0.96^(t * momentum_decay) / 2); m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; p = p - lr * ((1 - mu_t) * g / (1 - mu_1 * ... * mu_t) + mu_(t+1) * m / (1 - mu_1 * ... * mu_(t+1))) / (sqrt(v / (1 - b2^t)) + eps).
    options: float64 of shape (9,): lr, beta1, beta2, eps, weight_decay, momentum_decay, decoupled, maximize, mu_product; step: int64 of one element, counted up first.
    """
def nan_to_num(x: typing.Any, nan: typing.SupportsFloat | typing.SupportsIndex = 0.0, posinf: typing.SupportsFloat | typing.SupportsIndex | None = None, neginf: typing.SupportsFloat | typing.SupportsIndex | None = None) -> Tensor:
    """
    x with `nan` for NaN, and posinf and neginf for the infinities: None is the largest and the lowest number of the dtype. Gradient 0 there. Integers stay as they are.
    """
def ne(a: Operand, b: Operand) -> Tensor:
    """
    a != b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> wg.ne(0.5, 2).item()
    True
    """
def neg(x: typing.Any) -> Tensor:
    """
    -x. Gradient: dx = -g.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.neg(wg.tensor(-0.5)).item(), 4)
    0.5
    """
def nextafter(a: Operand, b: Operand) -> Tensor:
    """
    The number next to a, towards b. Gradient: da = g, db = 0. Integers become float32.
    """
def nonzero(x: Tensor) -> Tensor:
    """
    Places of the elements that are not zero: (count, ndim), int64.
    """
def num_threads() -> int:
    """
    Number of threads that kernels use.
    """
def one_hot(ids: Tensor, num_classes: typing.SupportsInt | typing.SupportsIndex, dtype: DType | str | None = None) -> Tensor:
    """
    1 at each id along a new last axis, else 0; int64 unless dtype says otherwise. IndexError for an id beyond num_classes.
    
    >>> wg.one_hot(wg.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
def ones(shape: int | Sequence[int], dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    Ones of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.
    """
def ones_like(x: Tensor, dtype: DType | str | None = None, requires_grad: bool = False) -> Tensor:
    """
    Ones, as x in shape, dtype and device.
    """
def ops() -> list[typing.Any]:
    """
    Every op: its name and its operands', the formulas of value and gradients for readers, where it has no gradient, why, the value of an elementwise op as lines of NumPy (a pattern for str.format) and of JavaScript, whether it is a view, and whether it runs on a GPU.
    """
def permute(x: Tensor, axes: Sequence[int]) -> Tensor:
    """
    The axes in another order, each named once. A view.
    """
def polygamma(n: typing.SupportsInt | typing.SupportsIndex, x: Tensor) -> Tensor:
    """
    Derivative n of digamma, itself that of lgamma. Gradient: dx = g * polygamma(n + 1, x). Integers become float32.
    """
def pow(a: Operand, b: Operand) -> Tensor:
    """
    a ** b. Gradient: da = g * b * a ** (b - 1), db = g * log(a) * a ** b.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.pow(0.5, 2).item(), 4)
    0.25
    """
def prod(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Product over the axes (all by default). Shapes and dtypes as sum's.
    
    >>> wg.prod(wg.tensor([2.0, 3.0, 4.0])).item()
    24.0
    """
def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """
    x with source's elements at places of the flattened x, or added there; as many as the index's.
    """
def radam_step(params: typing.Any, grads: typing.Any, exp_avgs: typing.Any, exp_avg_sqs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; l = 2 / (1 - b2) - 1; n = l - 2 * t * b2^t / (1 - b2^t); r = sqrt((n - 4) * (n - 2) * l / ((l - 4) * (l - 2) * n)) * sqrt(1 - b2^t) / (sqrt(v) + eps) if n > 5 else 1; p = p - lr * m / (1 - b1^t) * r.
    options: float64 of shape (7,): lr, beta1, beta2, eps, weight_decay, decoupled, maximize; step: int64 of one element, counted up first.
    """
def reciprocal(x: typing.Any) -> Tensor:
    """
    1 / x. Gradient: dx = -g * y * y. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.reciprocal(wg.tensor(-0.5)).item(), 4)
    -2.0
    """
def relu(x: typing.Any) -> Tensor:
    """
    max(x, 0). Gradient: dx = 0 where y <= 0, else g.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.relu(wg.tensor(-0.5)).item(), 4)
    0.0
    """
def remainder(a: Operand, b: Operand) -> Tensor:
    """
    a % b; the sign is b's, as in Python. Gradient: da = g, db = -g * (a // b).
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.remainder(0.5, 2).item(), 4)
    0.5
    """
def reset_memory_peak() -> None:
    """
    Resets the peak to what is in use now.
    """
def reshape(x: Tensor, shape: int | Sequence[int]) -> Tensor:
    """
    The elements in another shape of as many; one size may be -1. A view where the strides allow it, else a copy. ShapeError where the numbers differ.
    """
def rmsprop_step(params: typing.Any, grads: typing.Any, square_avgs: typing.Any, momentum_buffers: typing.Any, grad_avgs: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, alpha, eps, weight_decay, momentum = options; v = alpha * v + (1 - alpha) * g^2; b = momentum * b + g / (sqrt(v) + eps); p = p - lr * b.
    options: float64 of shape (6,): lr, alpha, eps, weight_decay, momentum, maximize; step: int64 of one element, counted up first.
    momentum_buffers: one for each parameter, or empty.
    grad_avgs: one for each parameter, or empty.
    """
def round(x: typing.Any) -> Tensor:
    """
    round(x), halves to even. Gradient: dx = 0. Integers stay as they are.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.round(wg.tensor(-0.5)).item(), 4)
    -0.0
    """
def rprop_step(params: typing.Any, grads: typing.Any, prevs: typing.Any, step_sizes: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: less, more, least, most = options; s = clamp(s * (more if g * before > 0 else less if g * before < 0 else 1), least, most); g = 0 if g * before < 0 else g; p = p - sign(g) * s; before = g.
    options: float64 of shape (5,): eta_minus, eta_plus, step_size_min, step_size_max, maximize; step: int64 of one element, counted up first.
    """
def rsqrt(x: typing.Any) -> Tensor:
    """
    1 / sqrt(x). Gradient: dx = g * -0.5 * y * y * y. Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.rsqrt(wg.tensor(0.5)).item(), 4)
    1.4142
    """
def scatter(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, *, reduce: str | None = None) -> Tensor:
    """
    x with y[index[i, j], j] = src[i, j] for axis 0, and so on: the reverse of gather(). src: of x's dtype and at least the index's shape, or a number. Of values for one place the last stays; reduce 'add' or 'multiply' takes in all.
    """
def scatter_add(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any) -> Tensor:
    """
    x with y[index[i, j], j] += src[i, j] for axis 0, and so on, in order: the same bits for any number of threads.
    """
def scatter_reduce(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex, index: Tensor, src: typing.Any, reduce: str, *, include_self: bool = True) -> Tensor:
    """
    As scatter_add(), by 'sum', 'prod', 'mean', 'amax' or 'amin' of x's element and its values; include_self=False: of the values alone, where there are any. Ties share the gradient.
    """
def set_cache_limit(bytes: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    The most free bytes to keep for reuse (at first that of the environment variable WENGERT_CACHE_LIMIT, or 2 GiB).
    """
def set_grad_enabled(enabled: bool) -> bool:
    """
    Turns recording on or off in this thread; returns what it was.
    """
def set_nan_watch(on: bool) -> None:
    """
    While on, the first op whose result has a NaN or an infinity raises a ValueError that names it and its place.
    """
def set_num_threads(n: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Sets the number of threads that kernels use, 1 to 256. Results have the same bits for any number.
    """
def sgd_step(params: typing.Any, grads: typing.Any, momentum_buffers: typing.Any, options: Tensor, step: Tensor) -> None:
    """
    One step of the optimizer on all parameters, in place: lr, momentum, dampening, weight_decay = options; g = g + weight_decay * p; b = momentum * b + (1 - dampening) * g; p = p - lr * b.
    options: float64 of shape (6,): lr, momentum, dampening, weight_decay, nesterov, maximize; step: int64 of one element, counted up first.
    momentum_buffers: one for each parameter, or empty.
    """
def sigmoid(x: typing.Any) -> Tensor:
    """
    1 / (1 + exp(-x)). Gradient: dx = g * y * (1 - y). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.sigmoid(wg.tensor(-0.5)).item(), 4)
    0.3775
    """
def sign(x: typing.Any) -> Tensor:
    """
    sign(x). Gradient: dx = 0.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.sign(wg.tensor(-0.5)).item(), 4)
    -1.0
    """
def signbit(x: typing.Any) -> Tensor:
    """
    Is the sign set, also of -0.0 and NaN? A bool tensor.
    """
def silu(x: typing.Any) -> Tensor:
    """
    sigmoid(x) * x; also called swish. Gradient: dx = g * s * (1 + x * (1 - s)), s = sigmoid(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.silu(wg.tensor(-0.5)).item(), 4)
    -0.1888
    """
def simd_level() -> str:
    """
    The instruction set in use: 'baseline', 'avx2' or 'avx512'. The environment variable WENGERT_ISA lowers it.
    """
def sin(x: typing.Any) -> Tensor:
    """
    sin(x); x in radians. Gradient: dx = g * cos(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.sin(wg.tensor(-0.5)).item(), 4)
    -0.4794
    """
def sinh(x: typing.Any) -> Tensor:
    """
    sinh(x). Gradient: dx = g * cosh(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.sinh(wg.tensor(-0.5)).item(), 4)
    -0.5211
    """
def softmax(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex = -1) -> Tensor:
    """
    exp(x) / sum(exp(x)) along an axis, stable; of x's shape, floating. IndexError for an axis that is not there.
    
    >>> wg.softmax(wg.tensor([[0.0, 0.0], [1.0, 1.0]]), axis=1)
    tensor([[0.5, 0.5],
            [0.5, 0.5]])
    """
def softplus(x: typing.Any) -> Tensor:
    """
    log(1 + exp(x)). Gradient: dx = g * sigmoid(x). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.softplus(wg.tensor(-0.5)).item(), 4)
    0.4741
    """
def split(x: Tensor, split_size: typing.Any, axis: typing.SupportsInt | typing.SupportsIndex = 0) -> list[Tensor]:
    """
    Views of x, end to end along an axis: of split_size elements each (the last may have fewer), or of the given sizes.
    """
def sqrt(x: typing.Any) -> Tensor:
    """
    sqrt(x). Gradient: dx = g / (2 * y). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.sqrt(wg.tensor(0.5)).item(), 4)
    0.7071
    """
def square(x: typing.Any) -> Tensor:
    """
    x * x. Gradient: dx = 2 * g * x.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.square(wg.tensor(-0.5)).item(), 4)
    0.25
    """
def squeeze(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """
    Without the named axes, or all, of size one; a view. ShapeError for an axis of another size.
    """
def stack(tensors: Sequence[Tensor], axis: typing.SupportsInt | typing.SupportsIndex = 0) -> Tensor:
    """
    Tensors of one shape along a new axis. ShapeError where the shapes differ.
    
    >>> wg.stack([wg.ones(3), wg.zeros(3)]).shape
    (2, 3)
    """
def std(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, correction: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> Tensor:
    """
    Square root of var(); gradient 0 where all elements are equal.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> wg.std(x, axis=0)
    tensor([1. , 1.5])
    """
def sub(a: Operand, b: Operand) -> Tensor:
    """
    a - b. Gradient: da = g, db = -g.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.sub(0.5, 2).item(), 4)
    -1.5
    """
def sum(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """
    Sum over the axes (all by default). Gathered in float64, whatever the dtype; of ints and bools int64. IndexError for an axis that is not there.
    
    The result has x's shape without the axes; with keepdims they stay, of size 1.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> wg.sum(x, axis=0)
    tensor([4., 7.])
    >>> x.sum().item()
    11.0
    """
def swapaxes(x: Tensor, a: typing.SupportsInt | typing.SupportsIndex, b: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    Axes a and b exchanged; a view. IndexError for an axis that is not there.
    """
def take(x: Tensor, index: Tensor) -> Tensor:
    """
    x's elements, counted as if it were flattened; of the index's shape.
    """
def take_along_axis(x: Tensor, index: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = -1) -> Tensor:
    """
    gather() of x and an index that broadcast to each other but along `axis`; None: of both flattened. NumPy's.
    """
def take_along_dim(x: Tensor, index: Tensor, axis: typing.SupportsInt | typing.SupportsIndex | None = None) -> Tensor:
    """
    take_along_axis(), with PyTorch's default axis.
    """
def tan(x: typing.Any) -> Tensor:
    """
    tan(x); x in radians. Gradient: dx = g * (1 + y * y). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.tan(wg.tensor(-0.5)).item(), 4)
    -0.5463
    """
def tanh(x: typing.Any) -> Tensor:
    """
    tanh(x). Gradient: dx = g * (1 - y * y). Integers become float32.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.tanh(wg.tensor(-0.5)).item(), 4)
    -0.4621
    """
def tensor(data: typing.Any, dtype: DType | str | None = None, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """
    A tensor with a copy of the data: a number, nested lists, an array, or another tensor.
    
    Python floats become float32, ints int64, bools bool, unless dtype says otherwise; arrays keep their dtype.
    """
def transpose(x: Tensor, a: typing.SupportsInt | typing.SupportsIndex, b: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    Axes a and b exchanged; a view. IndexError for an axis that is not there.
    """
def trunc(x: typing.Any) -> Tensor:
    """
    trunc(x). Gradient: dx = 0. Integers stay as they are.
    
    The result has x's shape. DTypeError of what is no number.
    
    >>> round(wg.trunc(wg.tensor(-0.5)).item(), 4)
    -0.0
    """
def unsqueeze(x: Tensor, axis: typing.SupportsInt | typing.SupportsIndex) -> Tensor:
    """
    With a new axis of size one in front of `axis`; a view.
    """
def var(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, correction: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> Tensor:
    """
    Mean squared distance from the mean, over n - correction. Shapes as sum's.
    
    >>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> wg.var(x, axis=0)
    tensor([1.  , 2.25])
    """
def where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """
    a where the condition (bool) holds, else b; the three broadcast. DTypeError unless the condition is bool.
    
    >>> wg.where(wg.tensor([True, False]), wg.ones(2), 0.0)
    tensor([1., 0.])
    """
def xlogy(a: Operand, b: Operand) -> Tensor:
    """
    a * log(b); 0 where a is 0, unless b is NaN. Gradient: da = g * log(b), db = g * a / b. Integers become float32.
    
    a and b broadcast; ShapeError where they cannot. DTypeError of what is no number.
    
    >>> round(wg.xlogy(0.5, 2).item(), 4)
    0.3466
    """
def zeros(shape: int | Sequence[int], dtype: DType | str | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """
    Zeros of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.
    """
def zeros_like(x: Tensor, dtype: DType | str | None = None, requires_grad: bool = False) -> Tensor:
    """
    Zeros, as x in shape, dtype and device.
    """
__version__: str = '0.1.0'
bfloat16: DType
bool_: DType
float32: DType
float64: DType
int32: DType
int64: DType
uint8: DType
