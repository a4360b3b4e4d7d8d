"""wengert.testing: that gradcheck passes what is right and catches what is wrong."""

import numpy as np
import pytest

import wengert as wg
from wengert.testing import assert_close, gradcheck


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return wg.tensor(rng.standard_normal(shape))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.smoke
def test_right_gradients_pass(order, rng):
    a, b = leaf(rng, 3, 4), leaf(rng, 4, 2)
    assert gradcheck(lambda x, y: wg.tanh(x @ y), [a, b], order=order)
    assert gradcheck(lambda x: (x * x * x).sum(), a, order=order)
    assert gradcheck(lambda x, y: (wg.exp(x) * 2.0, x @ y), [a, b], order=order)  # two outputs
    assert gradcheck(lambda x: x * 3.0, a, order=order)  # linear: second derivative zero
    assert gradcheck(lambda x, y: wg.sigmoid(x), [a, b], order=order)  # unused input
    assert gradcheck(lambda x: wg.sin(x), a.T, order=order)  # strided
    assert gradcheck(lambda x: wg.sin(x), wg.zeros((0, 3), "float64"), order=order)


def test_integer_inputs_are_passed_on(rng):
    target = wg.tensor([0, 2, 1])
    assert gradcheck(wg.cross_entropy, [leaf(rng, 3, 4), target], order=2)


def half_detached(x):
    """x * x, with half of its gradient lost."""
    return x * x.detach()


@pytest.mark.smoke
def test_a_wrong_gradient_is_caught_with_its_place(rng):
    with pytest.raises(AssertionError) as caught:
        gradcheck(lambda a, b: (a * 2.0, half_detached(b)), [leaf(rng, 2), leaf(rng, 2, 3)])
    text = str(caught.value)
    assert "input 1, shape (2, 3)" in text and "analytic" in text and "numeric" in text
    assert "at element (" in text


def test_one_wrong_element_among_many_is_caught(rng):
    x = leaf(rng, 20, 20)
    mask = wg.zeros((20, 20), "float64")
    mask[7, 11] = 1.0

    def sabotaged(a):
        y = wg.sin(a)
        return y * (1.0 - mask) + (y * mask) * 1.001 - (y * mask).detach() * 0.001

    with pytest.raises(AssertionError, match=r"at element \(7, 11\)"):
        gradcheck(sabotaged, x)


def test_a_wrong_second_gradient_is_caught(rng):
    x = leaf(rng, 5)
    assert gradcheck(not_recorded, x)
    with pytest.raises(AssertionError, match="second order"):
        gradcheck(not_recorded, x, order=2)


def not_recorded(a):
    """sin(a), with the gradient cos(a) as a constant: its own gradient becomes 0."""
    constant = a.detach()
    return wg.sin(constant) + wg.cos(constant) * (a - constant)


def test_a_gradient_lost_altogether_is_caught(rng):
    with pytest.raises(AssertionError, match="analytic 0,"):
        gradcheck(lambda a: wg.sin(a.detach()), leaf(rng, 3))
    with pytest.raises(AssertionError, match="input 0"):
        gradcheck(lambda a, b: a.detach() * b, [leaf(rng, 3), leaf(rng, 3)])


def test_gradients_that_change_are_caught(rng):
    calls = []

    def unsteady(a):
        calls.append(1)
        return a * (1.0 + 1e-12 * len(calls))

    with pytest.raises(AssertionError, match="different bits"):
        gradcheck(unsteady, leaf(rng, 3))


def test_nan_is_not_right(rng):
    with pytest.raises(AssertionError):
        gradcheck(lambda a: wg.sqrt(a), wg.tensor([-1.0], "float64"))


def test_refusals(rng):
    with pytest.raises(wg.DTypeError, match="float64"):
        gradcheck(wg.sin, wg.ones((2,)))
    with pytest.raises(ValueError, match="order"):
        gradcheck(wg.sin, leaf(rng, 2), order=3)
    with pytest.raises(ValueError, match="nothing to differentiate"):
        gradcheck(lambda x: x, wg.arange(3))
    with pytest.raises(TypeError, match="input 0 is float"):
        gradcheck(wg.sin, [1.0])
    with pytest.raises(TypeError, match="output 0"):
        gradcheck(lambda x: 1.0, leaf(rng, 2))


def test_assert_close():
    x = wg.tensor([1.0, 2.0])
    assert_close(x, x)
    assert_close(x, np.array([1.0, 2.0]), check_dtype=False)
    assert_close(x, [1.0, 2.0])
    assert_close(wg.tensor([float("inf")]), wg.tensor([float("inf")]))
    assert_close(wg.tensor([2**62 + 1]), wg.tensor([2**62 + 1]))
    with pytest.raises(AssertionError, match="1 of 1 elements"):
        assert_close(wg.tensor([2**62 + 1]), wg.tensor([2**62]))
    with pytest.raises(AssertionError, match=r"here: 1 of 2 elements differ .* at \(1,\)"):
        assert_close(x, wg.tensor([1.0, 2.1]), message="here")
    with pytest.raises(AssertionError, match="shapes differ"):
        assert_close(x, wg.tensor([[1.0, 2.0]]))
    with pytest.raises(AssertionError, match="dtypes differ"):
        assert_close(x, wg.tensor([1.0, 2.0], "float64"))
    nan = wg.tensor([float("nan")])
    with pytest.raises(AssertionError):
        assert_close(nan, nan)
    assert_close(nan, nan, equal_nan=True)
    with pytest.raises(AssertionError):
        assert_close(wg.tensor([float("inf")]), wg.tensor([1.0]))
    with pytest.raises(AssertionError):
        assert_close(wg.tensor([1.0]), wg.tensor([float("inf")]))


def test_shapes_that_depend_on_values_are_refused():
    def grows(x):
        return wg.concatenate([x, x]) if bool((x >= 1).all()) else x

    with pytest.raises(AssertionError, match=r"outputs of shapes \[\(2,\)\] at .* and \[\(1,\)\]"):
        gradcheck(grows, (wg.tensor(np.ones(1)),))
