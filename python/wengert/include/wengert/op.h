/* An op of one's own in C or C++, from another extension module. It needs this header alone: no
 * library to link, and no C++ ABI to match. See examples/custom_op/.
 *
 *   static const char* cube(const wengert_array* in, wengert_array* out, const wengert_tools*) {...}
 *   static const wengert_op cube_op = {.version = WENGERT_OP_VERSION, .name = "cube", ...};
 *
 * The module exports a capsule of it, and Python makes the function:
 *
 *   PyModule_AddObject(m, "cube", PyCapsule_New((void*)&cube_op, "wengert.op", NULL));
 *   cube = wengert.custom_op(my_module.cube)
 *
 * A call is one line: it prints, steps, checks, and runs inside compiled steps without Python. Its
 * gradients are ops too, so they have gradients where they name ops of their own.
 */
#ifndef WENGERT_OP_H
#define WENGERT_OP_H

#include <stdint.h>

#define WENGERT_OP_VERSION 1
#define WENGERT_MAX_AXES 16
#define WENGERT_MAX_INPUTS 8

#ifdef __cplusplus
extern "C" {
#endif

enum { wengert_bool, wengert_uint8, wengert_int32, wengert_int64, wengert_float32 = 5,
       wengert_float64 };

/* Elements in row-major order, without gaps. */
typedef struct {
  void* data; /* null while shapes are inferred */
  int64_t size;
  int32_t dtype, ndim;
  int64_t shape[WENGERT_MAX_AXES];
} wengert_array;

/* What a kernel may ask the engine for. */
typedef struct {
  /* body(context, chunk) for each chunk, on the engine's threads, in any order. The number of
   * chunks should follow from sizes alone, so that results have the same bits on any number of
   * threads. A body may not throw or touch Python. */
  void (*parallel_for)(int64_t chunks, void (*body)(const void* context, int64_t chunk),
                       const void* context);
} wengert_tools;

typedef struct wengert_op {
  int32_t version; /* WENGERT_OP_VERSION */
  int32_t inputs;  /* at most WENGERT_MAX_INPUTS */
  const char* name;
  const char* operands; /* for listings: "x, w" */
  const char* formula;  /* "x ** 3" */
  /* Sets dtype, ndim and shape of the result. Null: those of the first input, which must be
   * floating, and all inputs alike. Returns null, or what is wrong and what was expected. */
  const char* (*infer)(const wengert_array* in, wengert_array* out);
  /* Fills out->data. Runs without Python's lock where there is much to do, so it may not touch
   * Python, and may not throw. Returns null, or what is wrong. */
  const char* (*value)(const wengert_array* in, wengert_array* out, const wengert_tools* tools);
  /* Of each input: the op that computes its gradient from (g, inputs...), or, with gradient_of_y,
   * (g, inputs..., y). Null: there is none, and asking for it is an error. */
  const struct wengert_op* gradient[WENGERT_MAX_INPUTS];
  int32_t gradient_of_y;
  double flops_per_element; /* of the result, for the study's costs */
} wengert_op;

#ifdef __cplusplus
}
#endif
#endif
