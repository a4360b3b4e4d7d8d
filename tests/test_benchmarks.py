"""The benchmarks: workloads compute what they say, turns and judgement work, pages are up to date.

Nothing is timed here for its speed.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cuda import built

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="the tests run alone")


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> Any:
    return importlib.import_module(name)


def small(name: str) -> Any:
    """The workload with two steps; W4 narrower too."""
    work = module("workloads").WORKLOADS[name]
    sizes = tuple(min(n, 256) for n in work.sizes)
    return dataclasses.replace(work, steps=3, sizes=sizes, batch=min(work.batch, 100))


def losses(peer: str, work: Any, variant: str) -> np.ndarray:
    return np.asarray(module(f"peers.{peer}").step(work, variant).values(), np.float64)


def test_residual_networks_are_the_same() -> None:
    """convolution.py's step, in the eyes of PyTorch."""
    pytest.importorskip("torch")
    ours = module("peers.wengert").residual(8).values()
    theirs = module("peers.torch").residual(8, "channels_last", compiled=False).values()
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, 1e-4)


@pytest.mark.parametrize("name", ["W1", "W2", "W3", "W4"])
def test_steps_of_wengert_agree_and_learn(name: str) -> None:
    work = small(name)
    eager = losses("wengert", work, "eager")
    assert eager.shape == (work.steps,)
    assert np.isfinite(eager).all()
    for variant in ("compiled", "run(n)"):
        np.testing.assert_allclose(losses("wengert", work, variant), eager, rtol=1e-6)
    task = module("peers.wengert").step(work, "run(n)")
    first = np.mean(task.values())
    for _ in range(20):
        task.run()
    assert np.mean(task.values()) < first


@pytest.mark.parametrize("name", ["W1", "W2"])
def test_steps_by_hand_agree(name: str) -> None:
    work = small(name)
    hand, ours = (losses(peer, work, v) for peer, v in (("numpy", "by hand"), ("wengert", "eager")))
    np.testing.assert_allclose(hand, ours, rtol=1e-5)


@pytest.mark.parametrize("name", ["W1", "W2", "W3"])
def test_steps_of_pytorch_and_jax_agree(name: str) -> None:
    """In processes of their own, where they are installed: JAX's threads and fork do not mix."""
    measure = module("measure")
    contenders = [
        measure.Contender(f"{peer} {v}", peer, "step", {"work": name, "variant": v})
        for peer, v in (("wengert", "eager"), ("torch", "eager"), ("jax", "jit"), ("jax", "scan"))
    ]
    with measure.Laboratory(1, ()) as laboratory:
        done = measure.compare(
            laboratory, contenders, tolerance=1e-4, turns=1, seconds=1e-3, budget=1
        )
    assert not done["disagree"]
    assert "wengert eager" in done["seconds"]
    assert set(done["missing"].values()) <= {"not installed"}


def test_other_tasks_of_wengert() -> None:
    workloads, peer, plain = module("workloads"), module("peers.wengert"), module("peers.numpy")
    for layout in ("nn", "nt", "tn", "tt"):
        for batch in (0, 3):
            spec = {"m": 4, "k": 5, "n": 6, "layout": layout, "dtype": "float32", "batch": batch}
            a, b, batched = workloads.operands(spec)
            made = peer.matmul(a, b, batched, "float32").values()
            np.testing.assert_allclose(made, a @ b, rtol=1e-5, atol=1e-6)
    x = workloads.numbers(100)
    for variant in peer.SIGMOID:
        expected = plain.sigmoid(x, variant).values()
        np.testing.assert_allclose(peer.sigmoid(x, variant).values(), expected, rtol=1e-5)
    assert peer.chain(10, "value").values() == pytest.approx(1.5 * 1.0001**10)
    assert peer.chain(10, "gradient").values() == pytest.approx(1.0001**10)


def test_matmul_flops_of_the_largest_step() -> None:
    assert module("workloads").WORKLOADS["W4"].matmul_flops == pytest.approx(42.0e9, rel=1e-3)


def test_turns_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two peers in processes of their own; one that differs and one that fails are said to."""
    measure = module("measure")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "no such core")  # is not passed on
    spec = {"length": 10, "variant": "value"}
    with measure.Laboratory(1, ("wengert", "numpy")) as laboratory:
        done = measure.compare(
            laboratory,
            [
                measure.Contender("wengert", "wengert", "chain", spec),
                measure.Contender("numpy", "numpy", "chain", spec),
                measure.Contender("longer", "numpy", "chain", spec | {"length": 99}),
                measure.Contender("no Adam", "numpy", "step", {"work": "W3", "variant": "by hand"}),
                measure.Contender("absent", "no_such_library", "chain", spec),
            ],
            tolerance=1e-5,
            turns=3,
            seconds=0.001,
            budget=1,
        )
        pids = [w.process.pid for w in laboratory.workers.values()]
    assert set(done["seconds"]) == {"wengert", "numpy"}
    assert all(s["turns"] == 3 and s["median"] > 0 for s in done["seconds"].values())
    assert done["disagree"] == ["longer"]
    assert "Adam" in done["missing"]["no Adam"]
    assert done["missing"]["absent"] == "not installed"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_dies_is_replaced() -> None:
    measure = module("measure")
    with measure.Laboratory(1, ("numpy",)) as laboratory:
        worker = laboratory.worker("numpy")
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(measure.PeerError, match="ended"):
            worker.ask("drop", "nothing")
        assert laboratory.worker("numpy") is not worker


def test_judgement() -> None:
    judge = module("musts").judge
    row = {"section": "steps", "name": "W1", "threads": 2, "unit": "us"}
    values = {"wengert run(n)": 2.0, "jax scan": 8.0, "torch eager": 100.0}
    row["values"] = {k: {"median": v} for k, v in values.items()}
    verdicts = {(m["contender"], m["against"]): m for m in judge(row)}
    scan = verdicts["wengert run(n)", "jax scan"]
    assert (scan["is"], scan["must"], scan["reached"]) == (4, 3, True)
    eager = verdicts["wengert run(n)", "torch eager"]
    assert (eager["is"], eager["reached"]) == (50, False)
    assert verdicts["wengert compiled", "jax jit"]["reached"] is None
    rates = {"section": "matmul", "name": "128x128x128 nn float32", "threads": 1}
    rates |= {"unit": "GFLOP/s", "values": {"wengert": {"median": 90}, "torch": {"median": 100}}}
    assert judge(rates)[0]["is"] == 0.9
    assert judge(rates)[0]["reached"] is False


RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
PRECISION = sorted((BENCHMARKS / "results" / "precision").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS + PRECISION, ids=lambda path: path.stem)
def test_pages_are_those_of_their_files(path: Path) -> None:
    report, musts = module("report"), module("musts")
    results = json.loads(path.read_text())
    plots = sorted(
        (p.name for p in path.parent.glob(f"{path.stem}-*.png")),
        key=lambda name: [*report.TITLES].index(name.rsplit("-", 1)[1].removesuffix(".png")),
    )
    assert path.with_suffix(".md").read_text() == report.page(results, plots)
    for row in results["rows"]:
        assert row["musts"] == musts.judge(row)
        assert report.lines(row)


@pytest.mark.skipif(not RESULTS, reason="no results are stored")
def test_the_performance_page_shows_the_files_that_it_names() -> None:
    report = module("report")
    page = report.PERFORMANCE.read_text()
    assert report.update(page) == page, "run python benchmarks/report.py"
    with pytest.raises(ValueError, match="no pair"):
        report.update("no markers")


@pytest.mark.skipif(not RESULTS, reason="no results are stored")
def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = json.loads(RESULTS[-1].read_text())
    for name in module("report").draw(results, tmp_path / "it.json"):
        assert (tmp_path / name).stat().st_size > 1000


def test_a_run_that_is_cut_keeps_what_it_has_and_goes_on_from_there(tmp_path: Path) -> None:
    def command(*words: str) -> list[str]:
        run = [sys.executable, str(BENCHMARKS / "run.py"), "memory", "--peers", "numpy"]
        return [*run, "--threads", "1", *words]

    with subprocess.Popen(
        command("--out", str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert "sigmoid forward, 1,000" in run.stdout.readline()
        run.terminate()
        run.communicate()
    assert run.returncode == 130
    (path,) = tmp_path.glob("*.json")
    assert path.with_suffix(".md").exists()
    results = json.loads(path.read_text())
    names = [row["name"] for row in results["rows"]]
    assert names[0] == "sigmoid forward, 1,000"
    assert len(names) < 10
    assert results["about"]["threads"] == [1]
    only = ("--into", str(path), "--missing", "--only", " 1,000$|forward, 10,000$")
    subprocess.run(command(*only), check=True, capture_output=True)
    after = json.loads(path.read_text())["rows"]
    assert {row["name"] for row in after} >= {f"sigmoid forward, {n}" for n in ("1,000", "10,000")}
    assert after[: len(names)] == results["rows"]  # as they were


def test_rows_of_one_work_stand_side_by_side() -> None:
    placed = module("run").placed
    rows: list[dict[str, Any]] = []
    for threads in (1, 2, 2):
        for section, name in (("memory", "a"), ("steps", "W1"), ("steps", "W2")):
            row = {"section": section, "name": name, "threads": threads, "at": len(rows)}
            rows = placed(rows, row)
    stand = [(row["name"], row["threads"]) for row in rows]
    assert stand == [("W1", 1), ("W1", 2), ("W2", 1), ("W2", 2), ("a", 1), ("a", 2)]
    assert all(row["at"] == 6 for row in rows if row["threads"] == 2)  # the last ones


def test_the_command_refuses_what_it_does_not_know() -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py")]
    for bad, said in (
        (["no_such"], "no such section"),
        (["--threads", "x"], "expected numbers"),
        (["--missing"], "--missing is of the rows of a file"),
        (["--into", "no_such.json"], "there is no no_such.json"),
    ):
        done = subprocess.run(command + bad, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert said in done.stderr


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("g++"):
        pytest.skip("no g++")
    return built(tmp_path_factory.getbasetemp())


def test_the_gpu_benchmark_runs_from_end_to_end(emulated: Path) -> None:
    """With tiny sizes, on the emulated GPU, PyTorch and JAX on the CPU: it writes nothing."""
    results = sorted((BENCHMARKS / "results").rglob("*"))
    done = subprocess.run(
        [BENCHMARKS / "gpu.sh", "--smoke"],
        env={
            **os.environ,
            "WENGERT_CUDA_LIBRARY": str(emulated),
            "WENGERT_BENCHMARK_TORCH": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(done.stdout)
    gpu = module("gpu")
    for make in gpu.WORKS.values():
        for work in make(smoke=True):
            assert f"{work.section}: {work.name} [{work.unit}]; {work.precision}" in done.stdout
    ran = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" ran")]
    assert ran.count("Wengert") >= 5 and "gate passed: matmul strict" in done.stdout
    # What cannot run says why, in words that are known.
    for line in done.stdout.splitlines():
        if found := re.match(r"  (\w.{25}) +- +(.*)", line):
            assert re.search(
                "not installed|No module named 'tinycudann'|a CUDA graph needs a GPU"
                "|no set_matmul_precision|has no CUDA kernel",
                found[2],
            ), line
    assert sorted((BENCHMARKS / "results").rglob("*")) == results


def test_a_gate_that_fails_stops_the_gpu_benchmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gpu = module("gpu")
    wrong = {"section": "gates", "name": "matmul strict", "passed": False, "error": "2 of 1"}
    monkeypatch.setattr(gpu, "gates", lambda laboratory, smoke: iter([wrong]))
    assert gpu.run(True, None, 0.0, None) == 1
    out, error = capsys.readouterr()
    assert out == "gate FAILED: matmul strict: 2 of 1\n" and "nothing is timed" in error


def test_pages_of_gpu_results(tmp_path: Path) -> None:
    """The page, the plot and the table of a run, from made-up lines; no figure of it is stored."""
    report, gpu, musts = module("gpu_report"), module("gpu"), module("musts")
    facts = {"date": "2030-01-02T03:04:05", "device": "Some GPU", "driver": "1", "commit": "abc"}
    rows = [
        {"section": "ceilings", "name": "read", "value": 3000.0, "unit": "GB/s"},
        {"section": "gates", "name": "matmul fp32 1x1x1", "passed": True, "error": "0 of 1"},
    ]
    for make in gpu.WORKS.values():
        for work in make(smoke=False):
            labels = [c.label for c in work.contenders]
            if work.name.startswith("small"):
                labels.remove("torch graph")
            values = {
                label: {"median": 10.0 + i, "low": 9.0, "high": 14.0}
                for i, label in enumerate(labels)
            }
            row = {"section": work.section, "name": work.name, "unit": work.unit, "threads": 1}
            row |= {"values": values, "precision": work.precision, "clocks": "1 MHz", "notes": {}}
            row["musts"] = musts.judge(row, musts.GPU_MUSTS)
            assert row["musts"] or re.search("4096 (nt|tn|nn fp32)", work.name)
            rows.append(row)
    path = tmp_path / "2030-01-02-some-gpu.jsonl"
    path.write_text("".join(json.dumps(row | facts) + "\n" for row in rows))
    report.write(path)
    page = path.with_suffix(".md").read_text()
    assert "# Some GPU, 2030-01-02" in page and "Driver 1; commit abc" in page
    assert "| 8192 nn bf16 [TFLOP/s] | 10 ±25% | 11 ±23% |" in page
    table = (tmp_path / "README.md").read_text()
    assert "Some GPU: [2030-01-02-some-gpu]" in table
    assert table.count(report.NOT_MEASURED) == 2  # the graph that was left out
    assert len(re.findall(r"^\|", table, re.MULTILINE)) == 2 + len(musts.GPU_MUSTS)
    if importlib.util.find_spec("matplotlib"):
        assert path.with_suffix(".png").stat().st_size > 1000


def test_the_table_of_gpus_is_up_to_date(tmp_path: Path) -> None:
    report = module("gpu_report")
    folder = BENCHMARKS / "results/gpu"
    for path in folder.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
        assert report.page(report.read(path)) == path.with_suffix(".md").read_text()
    report.overview(tmp_path)
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_the_ceilings_compile(tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-O3", "-gencode", "arch=compute_90a,code=sm_90a"]
    command += ["-Werror", "all-warnings", BENCHMARKS / "ceilings.cu", "-o", tmp_path / "ceilings"]
    subprocess.run(command, check=True, timeout=300)


def test_a_precision_is_that_of_its_task_alone() -> None:
    import wengert as wg

    workloads, peer = module("workloads"), module("peers.wengert")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((48, 48)).astype(np.float32) for _ in range(2))
    seen: list[str] = []
    task = workloads.Task(lambda: None, lambda: seen.append(wg.get_matmul_precision()))
    workloads.with_setting(wg.set_matmul_precision, "fast", "strict", task).values()
    assert seen == ["fast"] and wg.get_matmul_precision() == "strict"
    assert re.fullmatch(r"error \d\.\de-0[78]", peer.matmul(a, b, False, "fp32").note)
    work = small("W3")
    strict = peer.step(work, "compiled", precision="strict")
    assert re.fullmatch(r"error \d\.\de-0[678]", strict.note)  # of its losses
    np.testing.assert_array_equal(strict.values(), losses("wengert", work, "compiled"))


def test_accuracy_by_precision() -> None:
    accuracy = module("accuracy")
    rows = list(accuracy.rows(["digits"], seeds=1, epochs=1))
    assert [row.split(" | ")[1] for row in rows] == list(accuracy.PRECISIONS)
    assert "| +0.00 | +0.00 |" in rows[0]
    train, test = accuracy.digits(0)
    assert accuracy.accuracy(train, test, 4, 0, "strict") > 70  # percent
