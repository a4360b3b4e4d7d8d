"""PyTorch on a GPU: eager; the whole step as one CUDA graph; torch.compile, reduce-overhead.

Optimizers are fused. "bf16" is autocast over float32 parameters; otherwise float32 products are
float32's ("highest": no TF32). cuBLAS is what torch.mm calls.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from workloads import Task, Workload, batches

from peers.torch import make_model

VERSION = torch.__version__
STEPS = ("eager", "graph", "reduce-overhead", "tiny-cuda-nn")
SIGMOID = ("forward", "backward")
DEVICE = os.environ.get("WENGERT_BENCHMARK_TORCH", "cuda")  # "cpu": to see whether it runs


def set_threads(n: int) -> None:
    torch.set_num_threads(n)
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA GPU for PyTorch")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def waited(run: Any, repeats: int) -> Any:
    def all_of_them() -> None:
        for _ in range(repeats):
            run()
        synchronize()

    return all_of_them


def tiny_cuda_nn(work: Workload) -> torch.nn.Module:
    import tinycudann

    return tinycudann.Network(
        work.sizes[0],
        work.sizes[-1],
        {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "ReLU",
            "n_neurons": work.sizes[1],
            "n_hidden_layers": len(work.sizes) - 2,
        },
    )


def step(work: Workload, variant: str, precision: str) -> Task:
    x, y = batches(work)
    xs, ys = torch.from_numpy(x).to(DEVICE), torch.from_numpy(y).to(DEVICE)
    model = tiny_cuda_nn(work) if variant == "tiny-cuda-nn" else make_model(work).to(DEVICE)
    graph = variant in ("graph", "tiny-cuda-nn")
    optimizer: torch.optim.Optimizer
    if work.optimizer == "adam":
        optimizer = torch.optim.Adam(
            model.parameters(), lr=work.lr, fused=True, capturable=graph and DEVICE == "cuda"
        )
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=work.lr, fused=True)
    loss_fn = functional.mse_loss if work.loss == "mse" else functional.cross_entropy

    def forward(x: Any, y: Any) -> Any:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            return loss_fn(model(x).float(), y)

    if variant == "reduce-overhead":
        forward = torch.compile(forward, mode="reduce-overhead", fullgraph=True)

    def one(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    call = captured(model, optimizer, one, xs[0], ys[0]) if graph else one
    pairs = list(zip(xs, ys, strict=True))

    def run() -> None:
        for x, y in pairs:
            call(x, y)
        synchronize()

    def values() -> Any:
        losses = [call(x, y).item() for x, y in pairs]
        return None if variant == "tiny-cuda-nn" else losses  # fp16, other weights, no biases

    return Task(run, values, per=len(pairs))


def captured(model: Any, optimizer: Any, one: Any, x: Any, y: Any) -> Any:
    """A step that copies its batch to a fixed place and launches one graph."""
    if DEVICE != "cuda":
        raise RuntimeError("a CUDA graph needs a GPU")
    static_x, static_y = x.clone(), y.clone()
    kept = [p.detach().clone() for p in model.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            one(static_x, static_y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = one(static_x, static_y)
    with torch.no_grad():  # as if nothing had been tried
        for p, old in zip(model.parameters(), kept, strict=True):
            p.copy_(old)
            for value in optimizer.state[p].values():
                if torch.is_tensor(value):
                    value.zero_()

    def call(x: Any, y: Any) -> Any:
        static_x.copy_(x, non_blocking=True)
        static_y.copy_(y, non_blocking=True)
        graph.replay()
        return loss

    return call


def matmul(a: np.ndarray, b: np.ndarray, batched: bool, precision: str) -> Task:
    del batched
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # `from_numpy` keeps the strides, and so does `to` of another device.
    at, bt = (torch.from_numpy(x).to(DEVICE, dtype) for x in (a, b))
    out = torch.mm(at, bt)
    run = waited(lambda: torch.mm(at, bt, out=out), 10)
    return Task(run, lambda: torch.mm(at, bt).float().cpu().numpy(), per=10)


def sigmoid(x: np.ndarray, variant: str) -> Task:
    xt = torch.from_numpy(x).to(DEVICE)
    if variant == "forward":
        return Task(waited(xt.sigmoid, 20), lambda: xt.sigmoid().cpu().numpy(), per=20)
    leaf, g = xt.requires_grad_(), torch.ones_like(xt)
    y = leaf.sigmoid()

    def backward() -> Any:
        return torch.autograd.grad(y, leaf, g, retain_graph=True)[0]

    return Task(waited(backward, 20), lambda: backward().cpu().numpy(), per=20)
