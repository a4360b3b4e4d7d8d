"""Recurrent layers and their cells; names, arguments, state and results are PyTorch's.

The inputs' products of all times are one matmul. Then all times of a layer are one line of the list
(csrc/ops/recurrent/), or, of cells, projections and packed sequences, lines of each time.
"""

# ruff: noqa: D107 - a layer's formula and arguments are explained at its class

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, overload

from .. import _core, _explained, functional
from .._calls import choice
from .._core import ShapeError, Tensor
from ..random import Generator
from . import init
from .module import Module, Parameter
from .utils.rnn import PackedSequence

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

State = Any  # a tensor, of LSTM a pair of them


def _parts(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """x[:n], x[n : n + m], ... by halves: the gradient of a part has the size of what it is a part
    of, so parts of the whole would make the cost quadratic."""
    if len(sizes) == 1:
        return [x]
    half = len(sizes) // 2
    cut = sum(sizes[:half])
    return _parts(x[:cut], sizes[:half]) + _parts(x[cut:], sizes[half:])


def _map(f: Callable[..., Tensor], *states: State) -> State:
    """f of tensors, or of each of pairs of them."""
    return tuple(map(f, *states)) if isinstance(states[0], tuple) else f(*states)


class _Recurrent(Module):
    """Names of parameters, and the formula of one time, for layers and cells."""

    _gates: ClassVar[int] = 1
    nonlinearity: str
    bias: bool
    hidden_size: int
    input_size: int

    @property
    def _cell(self) -> str:
        """Its name in csrc/ops/recurrent/cells.h."""
        return f"rnn_{self.nonlinearity}"

    def _sizes(self, **sizes: int) -> None:
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{type(self).__name__}: {name} is {size!r}; it must be an int")
            if size < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {size}; it must be 1 or more")

    def _make(
        self, end: str, inputs: int, hidden: int, back: int, bias: bool, dtype: Any,
        generator: Generator | None,
    ) -> None:  # fmt: skip
        """Parameters whose names end in `end`; back: the size of the output that comes back."""
        bound = 1 / math.sqrt(hidden)
        rows = self._gates * hidden
        shapes: dict[str, tuple[int, ...]] = {
            f"weight_ih{end}": (rows, inputs), f"weight_hh{end}": (rows, back)
        }  # fmt: skip
        if bias:
            shapes |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)}
        if back != hidden:
            shapes[f"weight_hr{end}"] = (back, hidden)
        for name, shape in shapes.items():
            start = init.uniform_(_core.empty(shape, dtype), -bound, bound, generator)
            setattr(self, name, Parameter(start))

    def _next(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        """The state after one time. x is the product of the input with its weight, plus all biases
        that may be added to it: `bias` is what may not. weight is transposed."""
        y = x + state @ weight
        return y.tanh() if self.nonlinearity == "tanh" else y.relu()

    def _biases(self, end: str) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the product of all inputs, once, and what at each time."""
        if not self.bias:
            return None, None
        return getattr(self, f"bias_ih{end}") + getattr(self, f"bias_hh{end}"), None

    def _zeros(self, x: Tensor, *shape: int) -> State:
        return _core.zeros(shape, x.dtype, x.device)

    def _bad_state(self, state: Tensor, expected: tuple[int, ...]) -> None:
        if not isinstance(state, Tensor) or state.shape != expected:
            got = state.shape if isinstance(state, Tensor) else type(state).__name__
            raise ShapeError(f"{type(self).__name__}: a state is {got}; expected shape {expected}")


class _GRU(_Recurrent):
    _gates = 3
    _cell = "gru"

    def _biases(self, end: str) -> tuple[Tensor | None, Tensor | None]:
        """The new part's second bias is multiplied by reset first."""
        if not self.bias:
            return None, None
        back: Tensor = getattr(self, f"bias_hh{end}")
        split = 2 * self.hidden_size
        first = _core.concatenate([back[:split], _core.zeros_like(back[split:])])
        return getattr(self, f"bias_ih{end}") + first, back[split:]

    def _next(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        h = self.hidden_size
        both, new = x.split([2 * h, h], -1)
        back, back_new = (state @ weight).split([2 * h, h], -1)
        if bias is not None:
            back_new = back_new + bias
        reset, keep = (both + back).sigmoid().split(h, -1)
        new = (new + reset * back_new).tanh()
        return new + keep * (state - new)


class _LSTM(_Recurrent):
    _gates = 4
    _cell = "lstm"

    def _next(self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        hidden, cell = state
        i, f, g, o = (x + hidden @ weight).split(self.hidden_size, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class _Layers(_Recurrent):
    """num_layers layers, each in one or both directions."""

    @_explained.explained
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        kind = type(self).__name__
        self._sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{kind}: proj_size is {proj_size}; expected less than hidden_size, {hidden_size}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size, self.generator = bidirectional, proj_size, generator
        back = proj_size or hidden_size
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else back * (1 + bidirectional)
            for end in self._ends(layer):
                self._make(end, inputs, hidden_size, back, bias, dtype, generator)

    def _ends(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def _direction(
        self, x: Tensor, sizes: list[int], first: State, end: str
    ) -> tuple[Tensor, State]:
        """Outputs of all times, and each sequence's last state. x is packed: sizes[t] rows for time
        t. `first` has a row for each sequence."""
        bias = self._biases(end)
        weight, back = getattr(self, f"weight_hh{end}"), end.endswith("reverse")
        product = _core.linear(x, getattr(self, f"weight_ih{end}"), bias[0])
        if sizes[0] == sizes[-1] and not self.proj_size:
            return self._at_once(product, len(sizes), first, weight, bias[1], back)
        weight = weight.T
        projected = getattr(self, f"weight_hr{end}") if self.proj_size else None
        products, rows = _parts(product, sizes), sizes[-1]
        state = _map(lambda s: s[:rows], first) if back and rows < sizes[0] else first
        outputs, ended, rows = [], [], rows if back else sizes[0]
        for product, n in list(zip(products, sizes, strict=True))[:: -1 if back else 1]:
            if n > rows:  # backwards, sequences begin
                state = _map(lambda s, f, a=rows, b=n: _core.concatenate([s, f[a:b]]), state, first)
            elif n < rows:  # others are at their end
                ended.append(_map(lambda s, a=n: s[a:], state))
                state = _map(lambda s, a=n: s[:a], state)
            rows = n
            state = self._next(product, state, weight, bias[1])
            if projected is not None:
                state = (_core.linear(state[0], projected), state[1])
            outputs.append(state[0] if isinstance(state, tuple) else state)
        if ended:
            state = _map(lambda *parts: _core.concatenate(parts), state, *ended[::-1])
        return _core.concatenate(outputs[::-1] if back else outputs), state

    def _at_once(
        self, x: Tensor, times: int, first: State, weight: Tensor, bias: Tensor | None, back: bool
    ) -> tuple[Tensor, State]:
        """As _direction, of sequences of one length."""
        states = first if isinstance(first, tuple) else (first,)
        operands = [x.reshape(times, -1, x.shape[1]), weight, *states]
        if isinstance(self, _GRU):
            operands.append(
                _core.zeros(self.hidden_size, x.dtype, x.device) if bias is None else bias
            )
        y = _core._recurrent(self._cell, operands, back)
        each = [y[0], y[1]] if len(states) == 2 else [y]
        last = [part[0 if back else -1] for part in each]
        return each[0].reshape(len(x), -1), tuple(last) if len(states) == 2 else last[0]

    def _run(self, x: Tensor, sizes: list[int], states: list[State]) -> tuple[Tensor, list[State]]:
        """x is packed; one state for each layer and direction."""
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = functional.dropout(x, self.dropout, self.training, self.generator)
            sides = []
            for end in self._ends(layer):
                outputs, state = self._direction(x, sizes, states[len(last)], end)
                sides.append(outputs)
                last.append(state)
            x = sides[0] if len(sides) == 1 else _core.concatenate(sides, -1)
        return x, last

    def _states(self, hx: State, x: Tensor, n: int, one: bool) -> list[State]:
        """Of each layer and direction: of zeros, or what was given, in two axes if `one`."""
        count, pair = self.num_layers * (1 + self.bidirectional), isinstance(self, _LSTM)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 1 + pair]
        if hx is None:
            given = [self._zeros(x, count, n, size) for size in sizes]
        else:
            given = list(hx) if pair else [hx]
            for state, size in zip(given, sizes, strict=True):
                self._bad_state(state, (count, size) if one else (count, n, size))
            given = [state.unsqueeze(1) for state in given] if one else given
        rows = [[part.squeeze(0) for part in _parts(state, [1] * count)] for state in given]
        return list(zip(*rows, strict=True)) if pair else rows[0]

    def _packed(self, input: PackedSequence, hx: State) -> tuple[PackedSequence, State]:
        x, sizes = input.data, [int(n) for n in input.batch_sizes.tolist()]
        if x.ndim != 2 or x.shape[1] != self.input_size or sum(sizes) != len(x):
            raise ShapeError(
                f"{type(self).__name__}: packed data has shape {x.shape}; expected "
                f"({sum(sizes)}, {self.input_size})"
            )
        order, back = input.sorted_indices, input.unsorted_indices
        if hx is not None and order is not None:
            hx = _map(lambda state: state[:, order], hx)
        y, last = self._run(x, sizes, self._states(hx, x, sizes[0], False))
        after = self._after(last)
        if back is not None:
            after = _map(lambda state: state[:, back], after)
        return PackedSequence(y, input.batch_sizes, order, back), after

    def _after(self, last: list[State]) -> State:
        return _map(lambda *states: _core.stack(states), *last)

    @overload
    def forward(self, input: Tensor, hx: State = None) -> tuple[Tensor, State]: ...
    @overload
    def forward(self, input: PackedSequence, hx: State = None) -> tuple[PackedSequence, State]: ...
    def forward(self, input: Any, hx: State = None) -> tuple[Any, State]:
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        kind, one = type(self).__name__, input.ndim == 2
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size or 0 in input.shape:
            raise ShapeError(
                f"{kind}: input has shape {input.shape}; expected "
                f"{'(n, L' if self.batch_first else '(L, n'}, {self.input_size}), or without n"
            )
        turned = self.batch_first and not one
        x = input.unsqueeze(1) if one else input.swapaxes(0, 1) if turned else input
        length, n = x.shape[:2]
        states = self._states(hx, x, n, one)
        y, last = self._run(x.reshape(length * n, -1), [n] * length, states)
        y, after = y.reshape(length, n, -1), self._after(last)
        if one:
            y, after = y.squeeze(1), _map(lambda state: state.squeeze(1), after)
        return y.swapaxes(0, 1) if turned else y, after

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        return f"{text}, bidirectional=True" if self.bidirectional else text


class RNN(_Layers):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, at each time, from h of hx or zeros.

    input (L, n, input_size), with batch_first (n, L, ...), or without n, to (output, h): output
    (L, n, hidden_size), twice that where bidirectional; hx and h (num_layers · directions, n,
    hidden_size). dropout is on the outputs of all layers but the last, in training.

    Sequences of several lengths come packed (nn.utils.rnn), and the output is packed, too.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            dtype, generator,
        )  # fmt: skip


class LSTM(_Layers, _LSTM):
    """i, f, o = sigmoid(...), g = tanh(...) of W_ih x + b_ih + W_hh h + b_hh; c = f c + i g; h =
    o tanh(c), with proj_size W_hr times that. Arguments and results as RNN's, with the pair (h, c)
    in the place of h. Hochreiter and Schmidhuber, Neural Computation 9, 1997.
    """


class GRU(_Layers, _GRU):
    """r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h + b_hn));
    h = (1 - z) n + z h. Arguments and results as RNN's. Cho et al. 2014, arXiv 1406.1078.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            dtype, generator,
        )  # fmt: skip


class _Cell(_Recurrent):
    """One time of one layer: input (n, input_size) or (input_size,)."""

    @_explained.explained
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self._sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._make("", input_size, hidden_size, hidden_size, bias, dtype, generator)

    weight_ih: Parameter
    weight_hh: Parameter

    def forward(self, input: Tensor, hx: State = None) -> State:
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: input has shape {input.shape}; expected "
                f"(n, {self.input_size}) or ({self.input_size},)"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        pair = isinstance(self, _LSTM)
        if hx is None:
            zeros = self._zeros(input, *shape)
            hx = (zeros, zeros) if pair else zeros
        for state in hx if pair else [hx]:
            self._bad_state(state, shape)
        bias = self._biases("")
        product = _core.linear(input, self.weight_ih, bias[0])
        return self._next(product, hx, self.weight_hh.T, bias[1])

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(_Cell):
    """h of input and h, as RNN: (n, input_size) and (n, hidden_size) to (n, hidden_size)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, dtype, generator)


class LSTMCell(_Cell, _LSTM):
    """(h, c) of input and (h, c), as LSTM."""


class GRUCell(_Cell, _GRU):
    """h of input and h, as GRU."""


_explained.explain_all(globals())
