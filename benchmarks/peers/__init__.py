"""The libraries that are compared, a module each: only its own worker process imports it.

    VERSION                     of the library
    set_threads(n)              called first
    step(workload, variant)     a training step, as one of STEPS
    matmul(a, b, batched)       a product of NumPy arrays, with their strides
    sigmoid(x, variant)         as one of SIGMOID
    chain(length, variant)      scalar multiplications, as one of CHAIN: "value" or "gradient"

A module gpu_NAME is the same library on a GPU, for gpu.py: its tasks end when the GPU has done
them, and take a precision: "strict", "fp32", "fast" or "bf16".

Each makes a Task, in the form that the library's users would call fast. What a library lacks, its
module leaves out.
"""
