"""optim: trajectories and schedules against PyTorch, state, refusals."""

import copy
import json
import math

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim


def parameters(*values):
    return [nn.Parameter(wg.tensor(np.asarray(v, dtype=np.float64))) for v in values]


# ---- trajectories

SIZES = [5, 8, 3]
OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.05}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.02, "weight_decay": 0.1, "betas": (0.5, 0.9)}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.01, "momentum": 0.9}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("RMSprop", {"lr": 0.01, "centered": True}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {"lr": 0.05}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01, "maximize": True,
                 "initial_accumulator_value": 0.2, "eps": 1e-6}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.01, "maximize": True}),
    ("Adamax", {"lr": 0.01}),
    ("Adamax", {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.01,
                "maximize": True}),
    ("NAdam", {"lr": 0.01}),
    ("NAdam", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.1, "momentum_decay": 0.1,
               "decoupled_weight_decay": True, "maximize": True}),
    ("NAdam", {"lr": 0.02, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.1,
               "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.02, "weight_decay": 0.1}),
    ("Rprop", {"lr": 0.01}),
    ("Rprop", {"lr": 0.01, "etas": (0.4, 1.3), "step_sizes": (1e-4, 0.05), "maximize": True}),
    ("ASGD", {"lr": 0.1}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 10.0, "weight_decay": 0.01,
              "maximize": True}),
]  # fmt: skip
OPTIMIZERS += [
    ("Adafactor", {"lr": 0.05}),
    ("Adafactor", {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-5, 1e-2), "d": 1.5,
                   "weight_decay": 0.05, "maximize": True}),
]  # fmt: skip
OWN = [  # PyTorch has none of this name
    ("LAMB", {"lr": 0.01}),
    ("LAMB", {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.1,
              "maximize": True}),
    ("Lion", {"lr": 0.01, "weight_decay": 0.1}),
    ("Lion", {"lr": 0.01, "betas": (0.8, 0.9), "maximize": True}),
]  # fmt: skip


def pair(torch):
    """The same network twice, in float64."""
    theirs = torch.nn.Sequential(
        torch.nn.Linear(SIZES[0], SIZES[1]), torch.nn.Tanh(), torch.nn.Linear(SIZES[1], SIZES[2])
    ).double()
    ours = nn.MLP(SIZES, "tanh", dtype="float64")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return theirs, ours


@pytest.fixture
def doubles():
    """PyTorch with float64 for numbers that go on with the steps, such as NAdam's mu_product."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


def worst(theirs, ours):
    """The largest relative distance of two parameters."""
    return max(
        np.linalg.norm(p.detach().numpy() - q.detach().numpy()) / np.linalg.norm(q.detach().numpy())
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def data(steps=100):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((16, SIZES[0])), rng.integers(0, 3, 16)) for _ in range(steps)]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_trajectory_is_pytorchs(name, options, doubles):
    torch = doubles
    torch.manual_seed(0)
    theirs, ours = pair(torch)
    a = getattr(torch.optim, name)(theirs.parameters(), **options)
    b = getattr(optim, name)(ours.parameters(), **options)
    for x, t in data():
        a.zero_grad()
        b.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(t)).backward()
        wg.cross_entropy(ours(wg.tensor(x)), wg.tensor(t)).backward()
        a.step()
        b.step()
    assert worst(theirs, ours) < 1e-9


def lion(w, g, m, t, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    w = w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * w)
    return w, betas[1] * m + (1 - betas[1]) * g


def lamb(w, g, state, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    m, v = betas[0] * state[0] + (1 - betas[0]) * g, betas[1] * state[1] + (1 - betas[1]) * g**2
    r = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * w
    norms = np.linalg.norm(w), np.linalg.norm(r)
    return w - lr * (norms[0] / norms[1] if all(norms) else 1) * r, np.stack([m, v])


@pytest.mark.parametrize(("name", "options"), OWN)
def test_rules_that_pytorch_lacks_are_their_formulas(name, options):
    options = dict(options)
    rule = getattr(optim, name)(ours := parameters([1.0, -2.0, 0.5], np.zeros((2, 2))), **options)
    sign = -1 if options.pop("maximize", False) else 1
    of = {"Lion": lion, "LAMB": lamb}[name]
    w = [p.detach().numpy().copy() for p in ours]
    state = [np.zeros(((2,) if name == "LAMB" else ()) + x.shape) for x in w]
    rng = np.random.default_rng(4)
    for t in range(1, 26):
        for i, p in enumerate(ours):
            g = rng.standard_normal(p.shape)
            p.grad = wg.tensor(g)
            w[i], state[i] = of(w[i], sign * g, state[i], t, **options)
        rule.step()
    for p, x in zip(ours, w, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), x, 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.02, "nesterov": False, "weight_decay": 0.0, "momentum": 0.8},
        {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "eps": 1e-3,
         "ns_coefficients": (2.0, -1.5, 0.5)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 4)])
def test_muon_is_pytorchs(options, shape, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())  # ours keeps the dtype
    rng = np.random.default_rng(5)
    start = rng.standard_normal(shape)
    theirs, (eager,), (compiled,) = torch.tensor(start), parameters(start), parameters(start)
    other = torch.optim.Muon([theirs], **options)
    rules = [optim.Muon([p], **options) for p in (eager, compiled)]

    def update(g):
        compiled.grad = g * 1
        rules[1].step()

    update = wg.compile(update)
    for i in range(20):
        if i == 8:
            for rule in (other, *rules):
                rule.param_groups[0]["lr"] = 0.05
        g = rng.standard_normal(shape)
        theirs.grad, eager.grad = torch.tensor(g), wg.tensor(g)
        other.step()
        rules[0].step()
        update(wg.tensor(g))
    np.testing.assert_allclose(eager.detach().numpy(), theirs.numpy(), 1e-11, 1e-13)
    assert eager.tolist() == compiled.tolist() and update.traces == 1
    singular = np.linalg.svd(start - eager.detach().numpy())[1]
    assert singular.min() > 0
    resumed = parameters(eager.detach().numpy())
    again = optim.Muon(resumed)
    again.load_state_dict(rules[0].state_dict())
    resumed[0].grad = eager.grad
    again.step()
    rules[0].step()
    assert resumed[0].tolist() == eager.tolist()


def changed(optimizer, step):
    """What a user changes while training: the same numbers of an optimizer of either library."""
    first, second = optimizer.param_groups
    if step == 6:
        first["lr"], second["lr"] = first["lr"] / 2, second["lr"] * 0.7
    if step == 9:
        for name, value in {"weight_decay": 0.03, "betas": (0.7, 0.95), "momentum": 0.6}.items():
            if second.get(name):
                second[name] = value
    if step == 12:
        first["maximize"] = not first["maximize"]


@pytest.mark.parametrize(("name", "options"), [*OPTIMIZERS, *OWN])
def test_groups_and_changes_eager_compiled_and_in_pytorch(name, options, doubles):
    torch = doubles
    torch.manual_seed(0)
    theirs, eager = pair(torch)
    narrow, compiled = nn.MLP(SIZES, "tanh"), nn.MLP(SIZES, "tanh", dtype="float64")
    compiled.load_state_dict(eager.state_dict())
    narrow.load_state_dict(eager.state_dict())
    twin = nn.MLP(SIZES, "tanh")
    twin.load_state_dict(narrow.state_dict())

    def make(lib, model):
        halves = list(model.parameters())
        return getattr(lib, name)([{"params": halves[:2]}, {"params": halves[2:]}], **options)

    def stepper(model, optimizer):
        def step(x, t):
            optimizer.zero_grad()
            wg.cross_entropy(model(x), t).backward()
            optimizer.step()

        return step

    ours = [eager, compiled, narrow, twin]
    rules = [make(optim, model) for model in ours]
    steps = [stepper(m, o) for m, o in zip(ours, rules, strict=True)]
    steps[1], steps[3] = wg.compile(steps[1]), wg.compile(steps[3])
    other = make(torch.optim, theirs) if hasattr(torch.optim, name) else None
    for i, (x, t) in enumerate(data(25)):
        for rule in [*rules, other] if other else rules:
            changed(rule, i)
        for k, step in enumerate(steps):
            step(wg.tensor(x, "float64" if k < 2 else "float32"), wg.tensor(t))
        if other:
            other.zero_grad()
            torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(t)).backward()
            other.step()
    bits = [[p.detach().numpy().tobytes() for p in model.parameters()] for model in ours]
    assert bits[0] == bits[1] and bits[2] == bits[3]
    assert not other or worst(theirs, eager) < 1e-12
    assert steps[1].traces == 1  # numbers and flags are elements of a tensor
    for p, q in zip(eager.parameters(), narrow.parameters(), strict=True):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(("name", "flag"), [("AdamW", "amsgrad"), ("RMSprop", "centered")])
def test_a_state_that_is_switched_on_is_traced_anew(name, flag):
    bits, (x, t) = [], data(1)[0]
    for compiled in (False, True):
        wg.manual_seed(0)
        model = nn.MLP(SIZES, "tanh")
        rule = getattr(optim, name)(model.parameters())

        def step(x, t, model=model, rule=rule):
            rule.zero_grad()
            wg.cross_entropy(model(x), t).backward()
            rule.step()

        step = wg.compile(step) if compiled else step
        for i in range(9):
            rule.param_groups[0][flag] = 3 <= i < 6
            step(wg.tensor(x, "float32"), wg.tensor(t))
        bits.append([p.detach().numpy().tobytes() for p in model.parameters()])
        plain = getattr(optim, name)(model.parameters())
        assert set(rule.state_dict()["state"][0]) > set(plain._buffers[:1])
    assert bits[0] == bits[1] and step.traces >= 2


def test_bad_options():
    (p,) = parameters([1.0])
    for name, options, says in [
        ("Adagrad", {"lr_decay": -1.0}, "lr_decay is -1"),
        ("Adagrad", {"initial_accumulator_value": -1.0}, "initial_accumulator_value is -1"),
        ("Adadelta", {"rho": 1.5}, "rho is 1.5; it must be a number from 0 to 1"),
        ("Adamax", {"betas": (1.0, 0.9)}, "betas is 1.0"),
        ("NAdam", {"momentum_decay": -1.0}, "momentum_decay is -1"),
        ("RAdam", {"eps": -1.0}, "eps is -1"),
        ("Rprop", {"etas": (1.5, 1.2)}, r"etas is \(1.5, 1.2\); expected 0 < etas\[0\] < 1"),
        ("Rprop", {"etas": 0.5}, "etas is 0.5; it must be two numbers"),
        ("Rprop", {"step_sizes": (2.0, 1.0)}, "step_sizes is"),
        ("Rprop", {"step_sizes": (0.0, 1.0)}, "step_sizes is 0.0; it must be two numbers above"),
        ("ASGD", {"t0": math.nan}, "t0 is nan"),
        ("Lion", {"betas": (0.9,)}, "betas"),
        ("Adam", {"amsgrad": 1}, "amsgrad is 1; it must be True or False"),
        ("SGD", {"maximize": None}, "maximize is None"),
        ("RMSprop", {"centered": "yes"}, "centered is 'yes'"),
    ]:
        with pytest.raises(ValueError, match=f"{name}: {says}"):
            getattr(optim, name)([p], **options)
    (matrix,) = parameters([[1.0]])
    for name, options, says in [
        ("Adafactor", {"eps": 1e-8}, "eps is 1e-08; it must be two numbers"),
        ("Adafactor", {"eps": (-1.0, 1e-3)}, r"eps is -1\.0"),
        ("Adafactor", {"d": 0.5}, r"d is 0\.5; it must be a finite number, 1 or more"),
        ("Adafactor", {"beta2_decay": 0.8}, r"beta2_decay is 0\.8"),
        ("LAMB", {"betas": (1.0, 0.9)}, r"betas is 1\.0"),
        ("Muon", {"ns_steps": 0}, "ns_steps is 0"),
        ("Muon", {"ns_coefficients": (1.0, 2.0)}, "ns_coefficients is"),
        ("Muon", {"eps": 0.0}, r"eps is 0\.0"),
        ("Muon", {"adjust_lr_fn": "rms"}, 'adjust_lr_fn is "rms"; expected "original"'),
    ]:
        with pytest.raises(ValueError, match=f"{name}: {says}"):
            getattr(optim, name)([matrix], **options)
    with pytest.raises(wg.ShapeError, match=r"Muon: parameter 1 has shape \(1,\); it takes matric"):
        optim.Muon([matrix, p])
    wrong = optim.Adafactor([matrix]).state_dict()
    wrong["state"][0] = {"step": 1, "row_var": wg.ones(1), "col_var": wg.ones((1, 1))}
    with pytest.raises(
        ValueError, match=r"'row_var' of parameter 0 has shape \(1,\), here \(1, 1\)"
    ):
        optim.Adafactor([matrix]).load_state_dict(wrong)
    rule = optim.AdamW([p])
    with pytest.raises(ValueError, match="that is Adam"):
        rule.load_state_dict(optim.Adam([p]).state_dict())
    old = rule.state_dict()
    for flag in ("maximize", "amsgrad", "decoupled_weight_decay"):
        del old["param_groups"][0][flag]
    rule.load_state_dict(old)
    bad = optim.NAdam([p]).state_dict()
    bad["state"][0] = {"step": 1, "mu_product": wg.ones(2)}
    with pytest.raises(ValueError, match=r"'mu_product' of parameter 0 has shape \(2,\)"):
        optim.NAdam([p]).load_state_dict(bad)


def test_centered_gradients_that_stay_alike():
    """v - average^2 rounds to less than 0 here; PyTorch's parameters become NaN."""
    (p,) = parameters([1.0, -2.0, 0.3])
    rule = optim.RMSprop([p], centered=True)
    for _ in range(3000):
        p.grad = wg.tensor([0.1, 0.7, 1.3], "float64")
        rule.step()
    assert np.isfinite(p.tolist()).all()


@pytest.mark.parametrize(("name", "options"), [*OPTIMIZERS, *OWN])
@pytest.mark.smoke
def test_float32_follows_float64(name, options):
    """Rough, but a scalar rounded to float32 on its way (beta2, lr) would show."""
    wide, narrow = nn.MLP(SIZES, "tanh", dtype="float64"), nn.MLP(SIZES, "tanh")
    narrow.load_state_dict(wide.state_dict())
    wide.load_state_dict(narrow.state_dict())
    a = getattr(optim, name)(wide.parameters(), **options)
    b = getattr(optim, name)(narrow.parameters(), **options)
    for x, t in data(30):
        a.zero_grad()
        b.zero_grad()
        wg.cross_entropy(wide(wg.tensor(x)), wg.tensor(t)).backward()
        wg.cross_entropy(narrow(wg.tensor(x, "float32")), wg.tensor(t)).backward()
        a.step()
        b.step()
    for p, q in zip(wide.parameters(), narrow.parameters(), strict=True):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=2e-3, atol=2e-4)


def test_parameters_without_gradient_keep_a_count_of_their_own(doubles):
    """A parameter that joins at step 4 is corrected for its own first step, as in PyTorch."""
    torch = doubles
    for name, options in OPTIMIZERS:
        start = [np.arange(1.0, 4.0), np.arange(2.0, 6.0)]
        theirs = [torch.tensor(v, requires_grad=True) for v in start]
        ours = parameters(*start)
        a = getattr(torch.optim, name)(theirs, **options)
        b = getattr(optim, name)(ours, **options)
        for step in range(10):
            a.zero_grad()
            b.zero_grad()
            for i in range(2):
                if (i == 0 and step != 6) or (i == 1 and step >= 3):
                    (theirs[i] ** 2).sum().backward()
                    (ours[i] * ours[i]).sum().backward()
            a.step()
            b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12)


def test_momentum_that_is_switched_on_later():
    torch = pytest.importorskip("torch")
    theirs = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (ours,) = parameters(np.ones(3))
    a = torch.optim.SGD([theirs], 0.1)
    b = optim.SGD([ours], 0.1)
    for step in range(6):
        if step == 2:
            a.param_groups[0].update(momentum=0.9, dampening=0.5)
            b.param_groups[0].update(momentum=0.9, dampening=0.5)
        for o in (a, b):
            o.zero_grad()
        (theirs**2).sum().backward()
        (ours * ours).sum().backward()
        a.step()
        b.step()
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-13)


def test_both_dtypes_in_one_optimizer():
    p, q = nn.Parameter(wg.ones((3,))), nn.Parameter(wg.ones((3,), "float64"))
    optimizer = optim.Adam([p, q], 0.1)
    (p.sum() + q.sum()).backward()
    optimizer.step()
    assert p.tolist()[0] == pytest.approx(0.9, rel=1e-6)
    assert q.tolist()[0] == pytest.approx(0.9, rel=1e-7)


@pytest.mark.smoke
def test_groups():
    p, q = parameters([1.0], [1.0])
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)
    (p + q).sum().backward()
    optimizer.step()
    assert (p.item(), q.item()) == (pytest.approx(0.9), pytest.approx(0.5))
    with pytest.raises(ValueError, match="different learning rates"):
        _ = optimizer.lr
    optimizer.lr = 0.2
    assert optimizer.lr == 0.2 and optimizer.param_groups[1]["lr"] == 0.2
    tensor = optimizer.param_groups[0].lr
    optimizer.param_groups[0]["lr"] = 0.3
    assert tensor.item() == 0.3 and optimizer.param_groups[0].lr is tensor
    optimizer.add_param_group({"params": parameters([1.0])})
    assert len(optimizer.param_groups) == 3
    assert "lr=0.3" in repr(optimizer)


@pytest.mark.smoke
def test_step_is_not_recorded_and_zero_grad():
    (p,) = parameters([1.0, 2.0])
    optimizer = optim.Adam([p], 0.1)
    (p * p).sum().backward()
    optimizer.step()
    assert p.is_leaf and p.requires_grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None
    before = p.tolist()
    optimizer.step()  # no gradients: nothing to do
    assert p.tolist() == before
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with wg.no_grad():
        assert optimizer.step(closure).numel() == 1 and calls == [1]


# ---- refusals


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
@pytest.mark.parametrize("lr", [-1.0, math.nan, math.inf, "0.1", None, True])
def test_learning_rate(cls, lr):
    with pytest.raises(ValueError, match=f"{cls.__name__}: lr is"):
        cls(parameters([1.0]), lr=lr)


@pytest.mark.smoke
def test_refusals():
    (p,) = parameters([1.0])
    with pytest.raises(ValueError, match="empty"):
        optim.SGD([], 0.1)
    with pytest.raises(ValueError, match="empty"):
        optim.SGD([{"params": []}], 0.1)
    with pytest.raises(ValueError, match="twice"):
        optim.SGD([p, p], 0.1)
    with pytest.raises(ValueError, match="twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}], 0.1)
    with pytest.raises(ValueError, match="leaves"):
        optim.SGD([p * 2.0], 0.1)
    with pytest.raises(TypeError, match="params is"):
        optim.SGD(p, 0.1)
    with pytest.raises(TypeError, match=r"model\.parameters\(\)"):
        optim.SGD(nn.Linear(2, 2), 0.1)
    with pytest.raises(TypeError, match="parameter 0 is tuple"):
        optim.SGD(nn.Linear(2, 2).named_parameters(), 0.1)
    with pytest.raises(wg.DTypeError, match="int64"):
        optim.SGD([wg.arange(3)], 0.1)
    with pytest.raises(ValueError, match="unknown options momentun"):
        optim.SGD([{"params": [p], "momentun": 0.9}], 0.1)
    with pytest.raises(ValueError, match="momentum is -1"):
        optim.SGD([p], 0.1, momentum=-1)
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD([p], 0.1, nesterov=True)
    with pytest.raises(ValueError, match="betas"):
        optim.Adam([p], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="betas"):
        optim.Adam([p], betas=0.9)
    with pytest.raises(ValueError, match="eps"):
        optim.Adam([p], eps=-1e-8)
    with pytest.raises(ValueError, match="alpha"):
        optim.RMSprop([p], alpha=1.5)
    optimizer = optim.SGD([p], 0.1)
    with pytest.raises(ValueError, match="lr is nan"):
        optimizer.lr = math.nan
    with pytest.raises(ValueError, match="lr is -1"):
        optimizer.param_groups[0]["lr"] = -1.0
    assert optimizer.lr == 0.1


# ---- state


@pytest.mark.parametrize(("name", "options"), [*OPTIMIZERS, *OWN])
@pytest.mark.smoke
def test_state_dict_resumes_to_the_same_bits(name, options):
    def run(model, optimizer, batches):
        for x, t in batches:
            optimizer.zero_grad()
            wg.cross_entropy(model(wg.tensor(x)), wg.tensor(t)).backward()
            optimizer.step()

    batches = data(20)
    one = nn.MLP(SIZES, "tanh", dtype="float64")
    first = getattr(optim, name)(one.parameters(), **options)
    run(one, first, batches[:10])
    two = nn.MLP(SIZES, "tanh", dtype="float64")
    two.load_state_dict(one.state_dict())
    second = getattr(optim, name)(two.parameters(), lr=9.0)
    second.load_state_dict(first.state_dict())
    assert second.lr == first.lr
    run(one, first, batches[10:])
    run(two, second, batches[10:])
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()


def test_state_dict_keeps_counts_apart():
    p, q = parameters([1.0], [1.0])
    optimizer = optim.Adam([p, q], 0.1)
    for step in range(3):
        optimizer.zero_grad()
        ((p + q) if step else p).sum().backward()
        optimizer.step()
    state = optimizer.state_dict()
    assert [int(state["state"][i]["step"]) for i in (0, 1)] == [3, 2]
    other = optim.Adam(parameters([1.0], [1.0]), 0.1)
    other.load_state_dict(state)
    again = other.state_dict()
    assert [int(again["state"][i]["step"]) for i in (0, 1)] == [3, 2]
    assert again["param_groups"] == state["param_groups"]


def test_load_state_dict_refuses_and_changes_nothing():
    (p,) = parameters([1.0, 2.0])
    optimizer = optim.Adam([p], 0.1)
    p.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    other = optim.Adam(parameters([1.0, 2.0, 3.0]), 0.7)
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has shape \(2,\), here \(3,\)"):
        other.load_state_dict(state)
    assert other.lr == 0.7
    with pytest.raises(ValueError, match="groups of"):
        optim.Adam(parameters([1.0, 2.0], [1.0]), 0.7).load_state_dict(state)
    with pytest.raises(ValueError, match="'betas' is not one of SGD"):
        optim.SGD(parameters([1.0, 2.0]), 0.7).load_state_dict(state)
    with pytest.raises(ValueError, match="not the state"):
        other.load_state_dict({})
    bad = {**state, "param_groups": [{**state["param_groups"][0], "lr": -1.0}]}
    with pytest.raises(ValueError, match="lr is -1"):
        optimizer.load_state_dict(bad)


# ---- clipping


def test_clip_grad_norm():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for max_norm in (0.5, 1e6):
        gradients = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
        ours = parameters(*(np.zeros(g.shape) for g in gradients), np.zeros(2))
        theirs = [torch.zeros(g.shape, dtype=torch.float64) for g in gradients]
        for p, q, g in zip(ours[:2], theirs, gradients, strict=True):
            p.grad, q.grad = wg.tensor(g), torch.tensor(g)
        a = optim.clip_grad_norm_(ours, max_norm)
        b = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        for p, q in zip(ours[:2], theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)
    assert optim.clip_grad_norm_(parameters([1.0]), 1.0).item() == 0.0
    ours[0].grad[0, 0] = math.inf
    before = ours[1].grad.tolist()
    with pytest.raises(ValueError, match="inf or nan"):
        optim.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    assert ours[1].grad.tolist() == before
    with pytest.raises(ValueError, match="max_norm"):
        optim.clip_grad_norm_(ours, -1.0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("dtypes", "sizes"),
    [(["float32"], [1e20]), (["float32"], [1e-30]), (["float32"] * 2, [3e38, 1e-3]),
     (["float64"], [1e200]), (["float64"], [1e-200]), (["float64", "float32"], [1e300, 1e30]),
     (["float64", "float32"], [1e-300, 1e-40]), (["float64"], [0.0])],
)  # fmt: skip
def test_norms_of_any_range(dtypes, sizes, compiled):
    """Squares of the gradients neither overflow nor vanish."""
    gradients = [np.full(100, size, dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
    top = max(float(g[0]) for g in gradients)
    norm = top and top * math.sqrt(
        sum((g.astype(float) / top) @ (g.astype(float) / top) for g in gradients)
    )
    given = [wg.tensor(g) for g in gradients]
    leaves = [nn.Parameter(wg.ones(100, dtype=d)) for d in dtypes]

    def step(*grads):
        for p, g in zip(leaves, grads, strict=True):
            p.grad = g * 1
        return optim.clip_grad_norm_(leaves, 1.0)

    step = wg.compile(step) if compiled else step
    for _ in range(2):
        assert step(*given).item() == pytest.approx(norm, rel=1e-6)
        for p, g in zip(leaves, gradients, strict=True):
            factor = min(1 / (norm + 1e-6), 1)
            np.testing.assert_allclose(p.grad.numpy(), g * factor, rtol=1e-4, atol=1e-44)
    (p,) = leaves[:1]
    p.grad = wg.full((100,), 1e38 if p.dtype == wg.float32 else 1e300, p.dtype)
    optim.clip_grad_norm_(p, 1e-8)  # a factor of 1e-47
    np.testing.assert_allclose(p.grad.numpy(), np.full(100, 1e-9), rtol=1e-4)
    low = nn.Parameter(wg.zeros(100, dtype="bfloat16"))
    low.grad = wg.full((100,), 3.0, "bfloat16")
    optim.clip_grad_norm_(low, 0.7)
    assert low.grad.double().square().sum().sqrt().item() == pytest.approx(0.7, rel=2**-8)
    for bad in (math.inf, math.nan):
        p.grad = wg.full((100,), bad, p.dtype)
        assert not math.isfinite(optim.clip_grad_norm_(p, 1.0).item())


def test_clip_grad_value():
    (p,) = parameters(np.zeros(3))
    p.grad = wg.tensor([-5.0, 0.5, 7.0], "float64")
    optim.clip_grad_value_([p], 1.0)
    assert p.grad.tolist() == [-1.0, 0.5, 1.0]
    optim.clip_grad_value_(p, 0.25)
    assert p.grad.tolist() == [-0.25, 0.25, 0.25]
    with pytest.raises(ValueError, match="clip_value"):
        optim.clip_grad_value_([p], math.nan)


# ---- schedules

SCHEDULES = [
    ("StepLR", {"step_size": 7, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [3, 10, 10, 20], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("CosineAnnealingLR", {"T_max": 25, "eta_min": 0.001}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 13}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 6}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1.0 / (1 + epoch)}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: 1.0]}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 41}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 45, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 300, "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "three_phase": True, "pct_start": 0.04}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7, "eta_min": 0.001}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 11}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "step_size_down": 9,
                  "mode": "triangular2", "base_momentum": 0.7, "max_momentum": 0.95}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "mode": "exp_range",
                  "gamma": 0.97, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "scale_mode": "iterations",
                  "scale_fn": lambda epoch: 1 / (1 + epoch)}),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 1 - 1 / (epoch + 2) ** 2}),
    ("PolynomialLR", {"total_iters": 30, "power": 2.5}),
    ("PolynomialLR", {}),
]  # fmt: skip


def two(torch, **options):
    """An optimizer of each, with two groups."""
    theirs = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    a = torch.optim.SGD([{"params": theirs[0]}, {"params": theirs[1], "lr": 0.02}], 0.1, **options)
    ours = parameters([0.0], [0.0])
    b = optim.SGD([{"params": ours[0]}, {"params": ours[1], "lr": 0.02}], 0.1, **options)
    return a, b


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedule_is_pytorchs(name, options):
    torch = pytest.importorskip("torch")
    a, b = two(torch, momentum=0.9)
    theirs = getattr(torch.optim.lr_scheduler, name)(a, **options)
    ours = getattr(optim, name)(b, **options)
    for _ in range(options.get("total_steps", 300) - 1):
        assert rates(b) == pytest.approx(rates(a), rel=1e-10, abs=1e-15)
        momenta = [[g["momentum"] for g in o.param_groups] for o in (a, b)]
        assert momenta[1] == pytest.approx(momenta[0], rel=1e-12)
        assert ours.get_last_lr() == rates(b)
        theirs.step()
        ours.step()


@pytest.mark.filterwarnings("ignore")
def test_schedules_of_groups_with_numbers_of_their_own():
    torch = pytest.importorskip("torch")
    for name, options in [
        ("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": [0.1, 0.3], "step_size_up": 4}),
        ("MultiplicativeLR", {"lr_lambda": [lambda epoch: 0.9, lambda epoch: 1.01]}),
    ]:
        a, b = two(torch, momentum=0.9)
        theirs = getattr(torch.optim.lr_scheduler, name)(a, **options)
        ours = getattr(optim, name)(b, **options)
        for _ in range(50):
            assert rates(b) == pytest.approx(rates(a), rel=1e-12)
            theirs.step()
            ours.step()
    adam = optim.Adam(parameters([0.0]), 0.1)
    optim.CyclicLR(adam, 0.01, 0.1, 5)
    assert adam.param_groups[0]["betas"] == (0.9, 0.999)
    products = optim.SequentialLR(
        b := optim.SGD(parameters([0.0]), 1.0),
        [optim.ConstantLR(b, 1.0), optim.MultiplicativeLR(b, lambda epoch: 0.5)], [3],
    )  # fmt: skip
    for lr in [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]:
        assert b.lr == lr
        products.step()


@pytest.mark.filterwarnings("ignore")
def test_sequential_is_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.optim import lr_scheduler as schedulers

    a, b = two(torch)
    theirs = schedulers.SequentialLR(
        a,
        [
            schedulers.LinearLR(a, 0.1, total_iters=5),
            schedulers.CosineAnnealingLR(a, 20),
            schedulers.ConstantLR(a, 0.01, 100),
        ],
        [5, 25],
    )
    ours = optim.SequentialLR(
        b,
        [
            optim.LinearLR(b, 0.1, total_iters=5),
            optim.CosineAnnealingLR(b, 20),
            optim.ConstantLR(b, 0.01, 100),
        ],
        [5, 25],
    )
    for _ in range(35):
        assert rates(b) == pytest.approx(rates(a), rel=1e-10, abs=1e-15)
        theirs.step()
        ours.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_is_pytorchs(mode, threshold_mode):
    torch = pytest.importorskip("torch")
    a, b = two(torch)
    options = {
        "mode": mode, "threshold_mode": threshold_mode, "factor": 0.5, "patience": 2,
        "cooldown": 1, "threshold": 0.05, "min_lr": 0.004,
    }  # fmt: skip
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(a, **options)
    ours = optim.ReduceLROnPlateau(b, **options)
    rng = np.random.default_rng(2)
    for step in range(60):
        metric = math.nan if step == 20 else float(1 + rng.standard_normal() * 0.3 - 0.005 * step)
        theirs.step(metric)
        ours.step(wg.tensor(metric, "float64"))
        assert rates(b) == pytest.approx(rates(a), rel=1e-12)


def warm_up_and_cosine(optimizer):
    parts = [optim.LinearLR(optimizer, 0.1, total_iters=4), optim.CosineAnnealingLR(optimizer, 16)]
    return optim.SequentialLR(optimizer, parts, [4])


MAKERS = [
    *[lambda o, n=name, kw=kw: getattr(optim, n)(o, **kw) for name, kw in SCHEDULES[:9]],
    *[lambda o, n=name, kw=kw: getattr(optim, n)(o, **kw) for name, kw in SCHEDULES[10:]],
    warm_up_and_cosine,
    lambda o: optim.ReduceLROnPlateau(o, patience=1),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "adam", [lambda p: optim.SGD(p, 0.1, momentum=0.7), lambda p: optim.Adam(p, 0.1)]
)
@pytest.mark.parametrize("order", ["all made first", "schedule made last", "schedule loaded first"])
@pytest.mark.smoke
def test_schedule_goes_on_where_it_stood(make, adam, order):
    """Rates and momenta of the next steps are those of the run that was not interrupted."""
    first = parameters([1.0, -2.0])

    def go(params, optimizer, schedule, n):
        for _ in range(n):
            params[0].grad = params[0].detach() * 2
            optimizer.step()
            plateau = isinstance(schedule, optim.ReduceLROnPlateau)
            schedule.step(*([-1.0] if plateau else []))

    o = adam(first)
    schedule = make(o)
    go(first, o, schedule, 7)
    values = first[0].tolist()
    # As a checkpoint keeps them: the optimizer's tensors copied, the schedule's state as JSON.
    saved, kept = copy.deepcopy(o.state_dict()), json.loads(json.dumps(schedule.state_dict()))
    second = parameters(values)
    p = adam(second)
    if order == "schedule made last":
        p.load_state_dict(saved)
        other = make(p)
        other.load_state_dict(kept)
    else:
        other = make(p)
        steps = [lambda: p.load_state_dict(saved), lambda: other.load_state_dict(kept)]
        for step in steps if order == "all made first" else steps[::-1]:
            step()
    for _ in range(7):
        assert [dict(g) | {"params": 0} for g in p.param_groups] == [
            dict(g) | {"params": 0} for g in o.param_groups
        ]
        go(first, o, schedule, 1)
        go(second, p, other, 1)
    assert first[0].tolist() == second[0].tolist()


def test_schedule_state_refuses_and_changes_nothing():
    o = optim.SGD(parameters([0.0]), 0.1, momentum=0.9)
    cosine = optim.CosineAnnealingLR(o, 10)
    cosine.step()
    good = cosine.state_dict()
    p = optim.SGD(parameters([0.0]), 0.3, momentum=0.9)
    plateau = optim.ReduceLROnPlateau(p)
    full = {**plateau.state_dict(), "best": 0.5}
    for schedule, state, says in [
        (optim.StepLR(p, 5), good, "is the state of CosineAnnealingLR"),
        (plateau, good, "a state of it has class, .* best"),
        (warm_up_and_cosine(p), good, "is the state of CosineAnnealingLR"),
        (optim.CosineAnnealingLR(p, 10), {}, "this one has $"),
        (optim.CosineAnnealingLR(p, 10), 5, "this one has int"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_epoch": "x"}, "last_epoch is 'x'"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_epoch": math.inf}, "last_epoch is inf"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_epoch": -1}, "last_epoch is -1"),
        (optim.CosineAnnealingLR(p, 10), {**good, "base_lrs": 5}, "base_lrs is 5"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_lrs": [0.1, 0.2]}, "list of 1"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_lrs": ["x"]}, "last_lrs is 'x'"),
        (optim.CosineAnnealingLR(p, 10), {**good, "last_lrs": [math.nan]}, "last_lrs is nan"),
        (plateau, {**full, "best": None}, "best is None"),
        (plateau, {**full, "num_bad_epochs": 1.5}, "num_bad_epochs is 1.5"),
    ]:
        p.lr = 0.25
        before = schedule.state_dict()
        with pytest.raises(ValueError, match=says):
            schedule.load_state_dict(state)
        assert p.lr == 0.25
        assert schedule.state_dict() == before
    older = {key: value for key, value in good.items() if key != "class"}
    optim.CosineAnnealingLR(p, 10).load_state_dict(older)
    assert p.lr == o.lr


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_plateau_of_a_metric_of_either_sign(sign):
    for mode in ("min", "max"):
        better = sign * (0.9 if (mode == "min") == (sign > 0) else 1.1)
        for metrics, lr in [
            ([sign] * 8, 0.01),
            ([sign, *[sign * 1.00001, sign * 0.99999] * 4], 0.01),
            ([sign, sign, better, better], 1.0),
        ]:
            o = optim.SGD(parameters([0.0]), 1.0)
            schedule = optim.ReduceLROnPlateau(o, mode=mode, patience=2)
            for metric in metrics:
                schedule.step(metric)
            assert o.lr == pytest.approx(lr)


def test_one_cycle_takes_a_step_after_each_batch():
    o = optim.SGD(parameters([0.0]), 0.1, momentum=0.9)
    schedule = optim.OneCycleLR(o, 0.1, 10)
    for _ in range(9):
        schedule.step()
    last = dict(o.param_groups[0])
    schedule.step()
    assert dict(o.param_groups[0]) == last
    assert o.lr == pytest.approx(0.1 / 25 / 1e4)
    with pytest.raises(ValueError, match="step 11 of 10; the schedule has ended"):
        schedule.step()
    optim.OneCycleLR(o, 0.1, 10).load_state_dict(schedule.state_dict())  # of step 10 still


def test_a_learning_rate_of_0():
    for make in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop):
        (p,) = parameters([1.0, 2.0])
        optimizer = make([{"params": [p], "lr": 0.0}], lr=0)
        p.grad = wg.ones(2, dtype="float64")
        optimizer.step()
        assert p.tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match=r"lr is -0.1; it must be a finite number, 0 or more"):
            make([p], lr=-0.1)


def test_plateau_state():
    o = optim.SGD(parameters([0.0]), 0.1)
    schedule = optim.ReduceLROnPlateau(o, patience=2)
    for metric in (3.0, 4.0, 4.0):
        schedule.step(metric)
    p = optim.SGD(parameters([0.0]), 0.1)
    other = optim.ReduceLROnPlateau(p, patience=2)
    other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    other.step(4.0)
    assert p.lr == pytest.approx(0.01)


def test_schedules_refuse():
    o = optim.SGD(parameters([0.0]), 0.1)
    schedule = optim.StepLR(o, 3)
    o.lr = 0.5
    with pytest.raises(RuntimeError, match=r"are \[0\.5\], and this schedule set \[0\.1\]"):
        schedule.step()
    with pytest.raises(ValueError, match="step_size"):
        optim.StepLR(o, 0)
    with pytest.raises(ValueError, match="T_max"):
        optim.CosineAnnealingLR(o, 0)
    with pytest.raises(ValueError, match="factors"):
        optim.LinearLR(o, start_factor=0.0)
    with pytest.raises(ValueError, match="milestones"):
        optim.SequentialLR(o, [schedule, schedule], [])
    with pytest.raises(TypeError, match="ReduceLROnPlateau"):
        optim.SequentialLR(o, [schedule, optim.ReduceLROnPlateau(o)], [3])
    with pytest.raises(ValueError, match="functions"):
        optim.LambdaLR(o, [])
    with pytest.raises(ValueError, match="momentum to cycle"):
        optim.OneCycleLR(o, 0.1, 10)
    with pytest.raises(ValueError, match="CyclicLR: the optimizer has no momentum to cycle"):
        optim.CyclicLR(o, 0.01, 0.1)
    for make, says in [
        (lambda: optim.OneCycleLR(o, 0.1, 10, 0.6, three_phase=True), "between 0 and 0.5 with"),
        (lambda: optim.CyclicLR(o, [0.01, 0.02], 0.1), "base_lr has 2 numbers for 1 parameter"),
        (lambda: optim.CyclicLR(o, 0.01, -1.0), "max_lr is -1"),
        (lambda: optim.CyclicLR(o, 0.01, 0.1, 0), "step_size_up is 0"),
        (lambda: optim.CyclicLR(o, 0.01, 0.1, mode="square"), 'mode is "square"; expected'),
        (lambda: optim.CosineAnnealingWarmRestarts(o, 0), "T_0 is 0"),
        (lambda: optim.CosineAnnealingWarmRestarts(o, 1, 1.5), "T_mult is 1.5"),
        (lambda: optim.PolynomialLR(o, 5, math.nan), "power is nan"),
        (lambda: optim.MultiplicativeLR(o, []), "0 functions for 1"),
    ]:
        with pytest.raises(ValueError, match=says):
            make()
    cyclic = optim.CyclicLR(o, 0.01, 0.1, cycle_momentum=False)
    with pytest.raises(TypeError, match="CyclicLR cannot be a part of it"):
        optim.SequentialLR(o, [cyclic, cyclic], [3])
    schedule = optim.StepLR(o, 3)
    for make in (
        lambda layer: optim.StepLR(layer, 3),
        lambda layer: optim.OneCycleLR(layer, 0.1, 10),
        lambda layer: optim.CyclicLR(layer, 0.1, 0.2),
        lambda layer: optim.LambdaLR(layer, math.sqrt),
        lambda layer: optim.SWALR(layer, 0.1),
    ):
        with pytest.raises(TypeError, match="LR: optimizer is Linear, not an Optimizer"):
            make(nn.Linear(1, 1))
    with pytest.raises(ValueError, match='mode is "low"; expected "min" or "max"'):
        optim.ReduceLROnPlateau(o, mode="low")
    cycle = optim.OneCycleLR(optim.SGD(parameters([0.0]), 0.1), 0.1, 3, cycle_momentum=False)
    for _ in range(3):
        cycle.step()
    with pytest.raises(ValueError, match="ended"):
        cycle.step()


# ---- averages of weights


def averages(lib, kind):
    return {
        "swa": {},
        "ema": {"multi_avg_fn": lib.get_ema_multi_avg_fn(0.9)},
        "ema of each": {"avg_fn": lib.get_ema_avg_fn(0.8)},
        "swa of lists": {"multi_avg_fn": lib.get_swa_multi_avg_fn()},
        "own": {"avg_fn": lambda a, b, n: a * 0.5 + b * 0.25, "use_buffers": True},
    }[kind]


def normed(lib, double):
    layers = [lib.Linear(SIZES[0], 8), lib.BatchNorm1d(8), lib.Tanh(), lib.Linear(8, SIZES[2])]
    return double(lib.Sequential(*layers))


@pytest.mark.parametrize("kind", ["swa", "ema", "ema of each", "swa of lists", "own"])
def test_averages_are_pytorchs_in_and_beside_compiled_steps(kind):
    torch = pytest.importorskip("torch")
    from torch.optim import swa_utils

    torch.manual_seed(0)
    theirs = normed(torch.nn, lambda m: m.double())
    start = {k: v.numpy() for k, v in theirs.state_dict().items()}
    other = swa_utils.AveragedModel(theirs, **averages(swa_utils, kind))
    rule = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    runs = []
    for inside, compiled in [(False, False), (True, False), (True, True), (False, True)]:
        model = normed(nn, lambda m: m.to("float64"))
        model.load_state_dict(start)
        average = optim.AveragedModel(model, **averages(optim, kind))
        optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)

        def step(x, t, model=model, average=average, optimizer=optimizer, inside=inside):
            optimizer.zero_grad()
            wg.cross_entropy(model(x), t).backward()
            optimizer.step()
            if inside:
                average.update_parameters(model)

        runs.append((model, average, wg.compile(step) if compiled else step, inside))
    for x, t in data(12):
        rule.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(t)).backward()
        rule.step()
        other.update_parameters(theirs)
        for model, average, step, inside in runs:
            step(wg.tensor(x), wg.tensor(t))
            if not inside:
                average.update_parameters(model)
    first = runs[0][1].state_dict()
    expected = other.state_dict()
    assert set(first) == set(expected)
    rtol = (
        1e-5 if kind == "swa of lists" else 1e-12
    )  # there PyTorch's weight 1 / (n + 1) is float32
    for name, value in first.items():
        if kind == "own" and name.endswith("num_batches_tracked"):
            continue  # counts are copied, not averaged
        np.testing.assert_allclose(value.numpy(), expected[name].numpy(), rtol, 1e-14)
    for _, average, step, _ in runs[1:]:
        assert getattr(step, "traces", 1) == 1
        for name, value in average.state_dict().items():
            assert value.numpy().tobytes() == first[name].numpy().tobytes()
    batches = [x for x, _ in data(5)]
    swa_utils.update_bn([torch.tensor(x) for x in batches], other)
    for _, average, _, _ in runs[:1]:
        average.eval()
        optim.update_bn([wg.tensor(x) for x in batches], average)
        assert not average.module[1].training and average.module[1].momentum == 0.1
        got = average(wg.tensor(batches[0])).detach().numpy()
    np.testing.assert_allclose(
        got, other.eval()(torch.tensor(batches[0])).detach(), max(rtol, 1e-9)
    )


def test_averages_resume_and_refuse():
    model = nn.Linear(2, 2)
    average = optim.AveragedModel(model)
    assert average.module.weight is not model.weight
    for _ in range(3):
        with wg.no_grad():
            model.weight.mul_(2)
        average.update_parameters(model)
    other = optim.AveragedModel(nn.Linear(2, 2))
    other.load_state_dict(average.state_dict())
    other.update_parameters(model)
    average.update_parameters(model)
    assert other.module.weight.tolist() == average.module.weight.tolist()
    assert other.n_averaged.item() == 4
    before = average.state_dict()["module.weight"].tolist()
    with pytest.raises(ValueError, match=r"the model's parameters have shapes \[\(3, 2\)"):
        average.update_parameters(nn.Linear(2, 3))
    assert average.module.weight.tolist() == before
    with pytest.raises(ValueError, match="both given"):
        optim.AveragedModel(model, avg_fn=lambda *_: 0, multi_avg_fn=lambda *_: 0)
    with pytest.raises(TypeError, match="not a Module"):
        optim.AveragedModel(model.parameters())
    with pytest.raises(ValueError, match=r"decay is 1\.5"):
        optim.get_ema_multi_avg_fn(1.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 10])
def test_swalr_is_pytorchs(strategy, epochs):
    torch = pytest.importorskip("torch")
    from torch.optim import swa_utils

    a, b = two(torch)
    options = {"swa_lr": [0.05, 0.01], "anneal_epochs": epochs, "anneal_strategy": strategy}
    theirs = torch.optim.lr_scheduler.ExponentialLR(a, 0.9), swa_utils.SWALR(a, **options)
    ours = optim.ExponentialLR(b, 0.9), optim.SWALR(b, **options)
    for step in range(200):
        assert rates(b) == pytest.approx(rates(a), rel=1e-9)
        late = step >= 20 or not epochs
        theirs[late].step()
        ours[late].step()
        if step in (24, 150):
            other = optim.SGD([{"params": p} for p in parameters([0.0], [0.0])], 0.3)
            schedule = optim.SWALR(other, **options)
            schedule.load_state_dict(json.loads(json.dumps(ours[1].state_dict())))
            assert rates(other) == rates(b)
            b, ours = other, (ours[0], schedule)
    with pytest.raises(ValueError, match="anneal_epochs is -1"):
        optim.SWALR(b, 0.1, -1)


# ---- L-BFGS


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def closure_of(optimizer, parameters, loss=rosenbrock):
    def closure():
        optimizer.zero_grad()
        value = loss(*parameters)
        value.backward()
        return value

    return closure


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 2, "max_iter": 5, "lr": 0.3},
        {"line_search_fn": "strong_wolfe", "max_iter": 30, "max_eval": 12, "lr": 4.0},
        {"lr": 0.002, "max_iter": 8, "history_size": 3},
    ],
)
def test_lbfgs_is_pytorchs(options):
    torch = pytest.importorskip("torch")
    start = np.array([-1.2, 1.0, 0.5, -0.3])
    theirs, (ours,) = torch.tensor(start, requires_grad=True), parameters(start)
    a, b = torch.optim.LBFGS([theirs], **options), optim.LBFGS([ours], **options)
    for i in range(8):
        before = a.step(closure_of(a, [theirs])).item()
        assert b.step(closure_of(b, [ours])).item() == pytest.approx(before, rel=1e-6, abs=1e-13)
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), 1e-6)
        state, mine = a.state_dict()["state"][0], b.state_dict()["state"][0]
        assert [state[k] for k in ("n_iter", "func_evals")] == [
            mine[k] for k in ("n_iter", "func_evals")
        ]
        if i == 3:
            again = optim.LBFGS(parameters(ours.tolist()))
            again.load_state_dict(b.state_dict())
            ours, b = again.param_groups[0]["params"][0], again
    if len(options) == 1:
        assert ours.grad.abs().max().item() < 1e-3


def test_lbfgs_fits_a_network_of_several_parameters():
    wg.manual_seed(0)
    x, t = data(1)[0]
    x, t = wg.tensor(x), wg.tensor(t)
    model = nn.MLP(SIZES, "tanh", dtype="float64")
    rule = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=60)
    rule.step(wg.compile(closure_of(rule, (x, t), lambda x, t: wg.cross_entropy(model(x), t))))
    assert wg.cross_entropy(model(x), t).item() < 1e-3


def test_lbfgs_refuses_and_leaves_parameters_alone():
    (p,) = parameters([-1.2, 1.0])
    rule = optim.LBFGS([p], line_search_fn="strong_wolfe")
    good, calls = closure_of(rule, [p]), []

    def changes():
        value = good()
        calls.append(value)
        if len(calls) == 3:
            with wg.no_grad():
                p.add_(1e-3)
        return value

    def raises():
        calls.append(0)
        if len(calls) > 5:
            raise KeyError("data")
        return good()

    def nan():
        return good() * math.nan

    for closure, error, says in [
        (changes, RuntimeError, "the closure changed the parameters, which are as before"),
        (raises, KeyError, "data"),
        (nan, ValueError, "the loss is nan"),
        (None, TypeError, "needs a closure"),
    ]:
        with pytest.raises(error, match=says):
            rule.step(closure)
        assert p.tolist() == [-1.2, 1.0] and not rule.state_dict()["state"]
    step = wg.compile(lambda: rule.step(good))
    with pytest.raises(RuntimeError, match="with a compiled closure"):
        step()
        step()
    for options, says in [
        ({"max_iter": 0}, "max_iter is 0"),
        ({"max_eval": 1.5}, r"max_eval is 1\.5"),
        ({"history_size": True}, "history_size is True"),
        ({"tolerance_grad": -1.0}, r"tolerance_grad is -1\.0"),
        ({"line_search_fn": "wolfe"}, 'line_search_fn is "wolfe"; expected "strong_wolfe"'),
        ({"lr": -1.0}, r"lr is -1\.0"),
    ]:
        with pytest.raises(ValueError, match=f"LBFGS: {says}"):
            optim.LBFGS([p], **options)
    with pytest.raises(ValueError, match="one group"):
        optim.LBFGS([{"params": q} for q in parameters([1.0], [2.0])])
    with pytest.raises(ValueError, match="one dtype and device"):
        optim.LBFGS([p, nn.Parameter(wg.ones(2))])
    rule.step(good)
    with pytest.raises(ValueError, match=r"the state is of \[2\] parameters, here are 3"):
        optim.LBFGS(parameters([1.0, 2.0, 3.0])).load_state_dict(rule.state_dict())
    wall = optim.LBFGS(q := parameters([5.0]), line_search_fn="strong_wolfe", lr=100.0)
    wall.step(closure_of(wall, q, lambda x: (x - 2.0 * (x - 1.0).log()).sum()))  # NaN below 1
    assert q[0].item() == pytest.approx(3.0, abs=1e-5)
