"""The libraries that are compared, a module each: only its own worker process imports it.

    VERSION                     of the library
    set_threads(n)              called first
    step(workload, variant)     a training step, as one of STEPS
    matmul(a, b, batched)       a product of NumPy arrays, with their strides
    sigmoid(x, variant)         as one of SIGMOID
    chain(length, variant)      scalar multiplications, as one of CHAIN: "value" or "gradient"

Each makes a Task, in the form that the library's users would call fast. What a library lacks, its
module leaves out.
"""
