#!/usr/bin/env bash
# Everything on one GPU, within 10 minutes, build included: benchmarks/gpu.sh [--smoke]
#
# Needs nvcc and a python3 with NumPy, scikit-build-core, pybind11, cmake, ninja and pytest; peers are
# what that python3 has: PyTorch, JAX, tiny-cuda-nn. No network, and no change to the GPU's settings.
# Build (sm_90a, or WENGERT_CUDA_ARCHITECTURES), ceilings, tests/gpu/on_gpu.py and the gates (a failure
# stops it), then the rows: one JSON line each in benchmarks/results/gpu/, or in $OUT where it is set.
# --smoke runs the same steps with tiny sizes on the Wengert that is installed, emulated GPU and all;
# it measures nothing and writes no results.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$(date +%s)
smoke=${1:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { echo "== $(($(date +%s) - began)) s: $*"; }
if [ -n "$smoke" ] && [ "$smoke" != --smoke ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

ceilings=()
if [ -z "$smoke" ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,power.draw --format=csv
  say "build"
  CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) timeout 180 python3 -m pip install -q --no-deps --no-build-isolation \
    --no-index --target "$work/site" -Cbuild-dir="${WENGERT_BUILD:-$work/build}" -Ccmake.define.WENGERT_CUDA=ON \
    -Ccmake.define.WENGERT_CUDA_ARCHITECTURES="${WENGERT_CUDA_ARCHITECTURES:-90a}" .
  export PYTHONPATH=$work/site WENGERT_CACHE_DIR=$work/cache
  # NVRTC lies beside PyTorch, not beside what has just been built.
  nvrtc=$(python3 -c 'import glob, nvidia
print(next(iter(sorted(f for p in nvidia.__path__ for f in glob.glob(p + "/cu13/lib/libnvrtc.so.13"))), ""))' || true)
  [ -n "$nvrtc" ] && export WENGERT_NVRTC=$nvrtc
  say "ceilings"
  nvcc -std=c++17 -O3 -arch=native benchmarks/ceilings.cu -o "$work/ceilings"
  timeout 40 "$work/ceilings" > "$work/ceilings.jsonl"
  ceilings=(--ceilings "$work/ceilings.jsonl")
fi
python3 -c 'import wengert; print(wengert.cuda.status(), wengert.cuda.fusion_status(), sep="\n")'

say "correctness"
chosen=(-x)
[ -n "$smoke" ] && chosen=(-k "what_a_tensor_says or pinned")
(cd tests/gpu && timeout 120 python3 -m pytest -p no:cacheprovider on_gpu.py "${chosen[@]}" > "$work/tests.log" 2>&1) || {
  tail -60 "$work/tests.log"
  echo "tests/gpu/on_gpu.py has failed, or not ended: nothing is timed" >&2
  exit 1
}
tail -1 "$work/tests.log"
grep -q passed "$work/tests.log" || { echo "tests/gpu/on_gpu.py ran no test" >&2; exit 1; }

say "gates and rows"
left=$((570 - $(date +%s) + began)) # of 10 minutes
[ -n "$smoke" ] && left=420
timeout $((left + 25)) python3 benchmarks/gpu.py $smoke "${ceilings[@]}" ${OUT:+--out "$OUT"} --seconds $left
say "done"
