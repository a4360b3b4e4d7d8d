"""Random numbers: the published generator, the distributions, the same bits for any threads."""

import math

import numpy as np
import pytest

import wengert as wg


@pytest.mark.smoke
def test_philox_gives_the_published_numbers() -> None:
    # Random123's known answers for philox4x32-10, counter 0 and key 0.
    words = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert wg.rand(4, generator=wg.Generator(0)).tolist() == [(w >> 8) * 2.0**-24 for w in words]
    pairs = [words[1] << 32 | words[0], words[3] << 32 | words[2]]
    doubles = wg.rand(2, dtype="float64", generator=wg.Generator(0)).tolist()
    assert doubles == [(p >> 11) * 2.0**-53 for p in pairs]


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def test_normal_numbers_are_the_inverse_of_the_distribution() -> None:
    # Both take 64 bits a number: a normal number's place in its distribution is the uniform one.
    normal = wg.randn(20_000, dtype="float64", generator=wg.Generator(7)).numpy()
    uniform = wg.rand(20_000, dtype="float64", generator=wg.Generator(7)).numpy()
    np.testing.assert_allclose(normal_cdf(normal), uniform, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_uniform_numbers_stay_below_the_end(dtype: str) -> None:
    """Also where the dtype has few numbers below it, or the range few numbers at all."""
    u = wg.rand(300_000, dtype=dtype, generator=wg.Generator(1)).double()
    assert u.min().item() >= 0 and 0.99 < u.max().item() < 1
    assert abs(u.mean().item() - 0.5) < 5e-3
    for a, b in ((0.0, 1.0), (-1.0, 1.0), (100.0, 101.0), (1.0, 1.0 + 2**-22), (-1e-30, 0.0)):
        x = wg.zeros(20_000, dtype=dtype)
        low, high = (wg.tensor(end, dtype=dtype).double().item() for end in (a, b))
        x = wg.nn.init.uniform_(x, a, b, generator=wg.Generator(2)).double()
        assert x.min().item() >= low
        assert x.max().item() < high or low == high


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments(dtype: str) -> None:
    n = 1_000_000
    generator = wg.Generator(3)
    uniform = wg.rand(n, dtype=dtype, generator=generator)
    assert uniform.min().item() >= 0
    assert uniform.max().item() < 1
    assert abs(uniform.mean().item() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(uniform.var().item() - 1 / 12) < 1e-3
    normal = wg.randn(n, dtype=dtype, generator=generator)
    assert abs(normal.mean().item()) < 5 / n**0.5
    assert abs(normal.var().item() - 1) < 1e-2
    assert abs((normal**4).mean().item() - 3) < 0.05
    coin = wg.bernoulli(0.3, (n,), dtype=dtype, generator=generator)
    assert coin.dtype.name == dtype
    assert abs(coin.mean().item() - 0.3) < 5 * (0.21 / n) ** 0.5


def test_whole_numbers_and_permutations() -> None:
    generator = wg.Generator(5)
    whole = wg.randint(-3, 4, (70_000,), generator=generator).numpy()
    counts = np.bincount(whole + 3, minlength=7)
    assert counts.size == 7
    assert np.abs(counts - 10_000).max() < 500
    order = wg.randperm(1000, generator=generator).tolist()
    assert sorted(order) == list(range(1000))
    assert order != list(range(1000))
    firsts = {wg.randperm(3, generator=generator).tolist()[0] for _ in range(50)}
    assert firsts == {0, 1, 2}
    assert wg.randint(-(2**63), 2**63 - 1, (2,), generator=generator).dtype == wg.int64


@pytest.mark.smoke
def test_same_bits_for_any_threads_and_any_cut() -> None:
    drawn = []
    for threads in (1, 2, 3):
        wg.set_num_threads(threads)
        generator = wg.Generator(11)
        drawn.append((wg.rand(300_001, generator=generator).tolist(), generator.state.tolist()))
    wg.set_num_threads(2)
    assert drawn[0] == drawn[1] == drawn[2]
    generator = wg.Generator(11)
    parts = (
        wg.rand(100_000, generator=generator).tolist() + wg.rand(4, generator=generator).tolist()
    )
    assert parts == drawn[0][0][:100_004]


@pytest.mark.smoke
def test_state_can_be_kept_and_put_back() -> None:
    generator = wg.Generator(1)
    wg.randn(10, generator=generator)
    kept = generator.state.clone()
    first = wg.randn(5, generator=generator).tolist()
    generator.state.copy_(kept)
    assert wg.randn(5, generator=generator).tolist() == first
    assert wg.Generator(2**64 - 1).state.tolist() == [-1, 0]
    assert "seed=1" in repr(generator)


def test_bad_requests() -> None:
    with pytest.raises(ValueError, match="randint: got low = 3 and high = 3"):
        wg.randint(3, 3, (2,))
    with pytest.raises(ValueError, match=r"bernoulli: got p = 1\.5"):
        wg.bernoulli(1.5, (2,))
    with pytest.raises(wg.DTypeError, match="rand: got dtype int64"):
        wg.rand(3, dtype="int64")
    with pytest.raises(ValueError, match="64 bits"):
        wg.Generator(2**64)
    with pytest.raises(ValueError, match="randperm: got n = -1"):
        wg.randperm(-1)
