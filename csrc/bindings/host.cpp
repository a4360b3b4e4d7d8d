// What the core asks of Python: its lock, its signals, and the place in the user's program. Errors
// too.
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <unordered_map>

#include "base/allocator.h"
#include "base/isa.h"
#include "base/pool.h"
#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

// ---- the interpreter's lock ----

bool finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}
[[noreturn]] void park() {
  for (;;) pause();
}

void* release_lock() { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; }

void acquire_lock(void* token) {
  // While the interpreter shuts down, a thread that asks for the lock is ended by an exception that
  // must not pass through our frames (the process would abort). Such a thread waits here until the
  // process is gone.
  if (finalizing()) park();
  try {
    PyEval_RestoreThread(static_cast<PyThreadState*>(token));
  } catch (...) {
    park();
  }
}

unsigned long main_thread = 0;

bool interrupted() {
  if (PyThread_get_thread_ident() != main_thread || finalizing()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool signalled = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return signalled;
}

// ---- places ----

struct Spot {
  PyCodeObject* code;
  int at;
  bool operator==(const Spot&) const = default;
};
struct SpotHash {
  size_t operator()(const Spot& s) const {
    return std::hash<const void*>()(s.code) * 31 + static_cast<size_t>(s.at);
  }
};

// Code objects are kept for good: there are only as many as the program has functions. Guarded by
// Python's lock.
struct Places {
  std::unordered_map<Spot, Origin, SpotHash> numbers;
  std::vector<Spot> spots{{nullptr, 0}};
  std::unordered_map<PyCodeObject*, bool> ours;  // is it code of the package itself?
  std::string package;
};
Places& places() {
  static auto* p = new Places;
  return *p;
}

bool is_ours(PyCodeObject* code) {
  Places& p = places();
  const auto [at, fresh] = p.ours.emplace(code, false);
  if (fresh) {
    Py_INCREF(code);
    const char* file = PyUnicode_AsUTF8(code->co_filename);
    at->second = file && !p.package.empty() && std::string_view(file).starts_with(p.package);
    if (!file) PyErr_Clear();
  }
  return at->second;
}

// The innermost frame that is not the package's own.
Origin find_place() {
  PyFrameObject* frame = PyEval_GetFrame();  // borrowed
  Py_XINCREF(frame);
  Origin found = 0;
  while (frame && !found) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const Spot spot{code, PyFrame_GetLasti(frame)};
    // A loop writes many lines at few places: most are known without a search. Code that is here is
    // kept for good, so its address means one thing; the package's own has no number.
    static std::pair<Spot, Origin> known[64];
    auto& entry = known[SpotHash()(spot) / 2 % std::size(known)];
    if (!(entry.first == spot)) {
      if (!is_ours(code)) {
        const auto [at, fresh] =
            places().numbers.emplace(spot, static_cast<Origin>(places().spots.size()));
        if (fresh) places().spots.push_back(spot);
        found = at->second;
      }
      entry = {spot, found};
    }
    found = entry.second;
    Py_DECREF(code);
    PyFrameObject* back = found ? nullptr : PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  return found;
}

std::string describe_place(Origin origin) {
  const Spot spot = places().spots.at(origin);
  const char* file = PyUnicode_AsUTF8(spot.code->co_filename);
  return concat(file ? file : "?", ":", PyCode_Addr2Line(spot.code, spot.at));
}

}  // namespace

void let_others_run() {
  using Clock = std::chrono::steady_clock;
  thread_local Clock::time_point last;
  thread_local int calls = 0;
  if (++calls % 1024) return;
  const auto now = Clock::now();
  if (now - last < std::chrono::milliseconds(5)) return;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  { const WithoutHostLock unlocked; }
  last = Clock::now();
}

void add_errors(py::module_& m) {
  py::register_exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError);
  py::register_exception<GradientError>(m, "GradientError", PyExc_RuntimeError);
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  py::register_exception<DTypeError>(m, "DTypeError", PyExc_TypeError);
  // Translators are asked newest first, so ShapeError, a ValueError, comes after its base.
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      std::rethrow_exception(p);
    } catch (const IndexError& e) {
      PyErr_SetString(PyExc_IndexError, e.what());
    } catch (const ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const Interrupted&) {
      if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
  });
  py::register_exception<ShapeError>(m, "ShapeError", PyExc_ValueError);
}

py::dict facts_of(const Op& op) {
  py::dict d;
  d["name"] = op.name;
  d["operands"] = operands_of(op);
  d["formula"] = formula_of(op);
  d["gradients"] = gradients_of(op);
  d["numpy"] = op.write ? op.write(Dialect::numpy, 0) : Source();
  d["javascript"] = op.write ? op.write(Dialect::javascript, 0) : Source();
  d["numpy_call"] = op.numpy ? op.numpy : "";
  d["view"] = op.alias != nullptr;
  d["no_gradient"] = op.no_gradient ? py::object(py::str(op.no_gradient)) : py::object(py::none());
  d["cuda"] = op.gpu || op.alias != nullptr;
  return d;
}

void add_host(py::module_& m) {
  main_thread = PyThread_get_thread_ident();
  host = {release_lock, acquire_lock, interrupted};
  origin_source = {find_place, describe_place};

  m.def(
      "_set_package_directory", [](const std::string& path) { places().package = path; },
      py::arg("path"));
  m.def("num_threads", num_threads, "Number of threads that kernels use.");
  m.def("set_num_threads", set_num_threads, py::arg("n"),
        "Sets the number of threads that kernels use, 1 to 256. Results have the same bits for any "
        "number.");
  m.def(
      "simd_level", [] { return name(current_isa()); },
      "The instruction set in use: 'baseline', 'avx2' or 'avx512'. The environment variable "
      "WENGERT_ISA lowers it.");
  m.def(
      "memory_allocated", [] { return memory_figures().allocated; },
      "Bytes in use by CPU tensors, other than those of up to 64 bytes each.");
  m.def(
      "memory_peak", [] { return memory_figures().peak; },
      "The most bytes that were in use since the start or the last reset_memory_peak().");
  m.def("reset_memory_peak", reset_peak, "Resets the peak to what is in use now.");
  m.def(
      "memory_cached", [] { return memory_figures().cached; },
      "Bytes that are free and kept for reuse.");
  m.def(
      "empty_cache",
      [] {
        const WithoutHostLock unlocked;
        empty_cache();
      },
      "Gives the free bytes back to the system.");
  m.def(
      "set_cache_limit",
      [](int64_t bytes) {
        if (bytes < 0) fail<ValueError>("set_cache_limit: got ", bytes, "; expected 0 or more");
        set_cache_limit(bytes);
      },
      py::arg("bytes"),
      "The most free bytes to keep for reuse (at first that of the environment "
      "variable WENGERT_CACHE_LIMIT, or 2 GiB).");
  m.def(
      "cache_limit", [] { return memory_figures().limit; },
      "The most free bytes that are kept for reuse.");
  m.def(
      "ops",
      [] {
        py::list list;
        for (const Op* op : all_ops()) list.append(facts_of(*op));
        return list;
      },
      "Every op: its name and its operands', the formulas of value and gradients for readers, "
      "where "
      "it has no gradient, why, the value of an elementwise op as lines of NumPy (a pattern for "
      "str.format) and of JavaScript, whether it is a view, and whether it runs on a GPU.");
}

}  // namespace wengert::bindings
