// Guards of compiled steps: whether the Python state that a trace read is still what it was, and
// which code a step ran. python/wengert/_guards.py decides what is guarded.
//
// A dict is compared by its version first, so that a call costs a comparison for each dict; where
// that has changed, by the keys that the trace read.
#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bindings/fast.h"
// After Python.h.
#include <frameobject.h>

namespace wengert::bindings {

namespace {

// ---- the version of a dict ----

#if PY_VERSION_HEX < 0x030C0000
uint64_t version_of(PyObject* dict) {
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
}

#else
// From 3.12 on a watcher is told of changes; the number of a dict's last one is its version.
std::unordered_map<PyObject*, uint64_t>& versions() {
  static auto* map = new std::unordered_map<PyObject*, uint64_t>;
  return *map;
}
uint64_t last_version = 0;

int on_dict_event(PyDict_WatchEvent event, PyObject* dict, PyObject*, PyObject*) {
  if (event == PyDict_EVENT_DEALLOCATED)
    versions().erase(dict);
  else if (const auto at = versions().find(dict); at != versions().end())
    at->second = ++last_version;
  return 0;
}

uint64_t version_of(PyObject* dict) {
  static const int watcher = PyDict_AddWatcher(on_dict_event);
  if (watcher < 0) {  // all are taken: no version is ever known
    PyErr_Clear();
    return ++last_version;
  }
  const auto [at, fresh] = versions().try_emplace(dict, 0);
  if (fresh) {
    at->second = ++last_version;
    PyDict_Watch(watcher, dict);
  }
  return at->second;
}
#endif
// From 3.13 on an object may write to its attributes past its dict.
constexpr bool objects_tell = PY_VERSION_HEX < 0x030D0000;

// ---- comparing ----

// Equal constants may be different objects: numbers (to the bit), text, and tuples of them.
bool same_constant(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (!a || !b || Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyFloat_CheckExact(a)) {
    const double x = PyFloat_AS_DOUBLE(a), y = PyFloat_AS_DOUBLE(b);
    return std::memcmp(&x, &y, sizeof x) == 0;
  }
  if (PyTuple_CheckExact(a)) {
    if (PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b)) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(a); ++i)
      if (!same_constant(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
    return true;
  }
  if (!PyLong_CheckExact(a) && !PyUnicode_CheckExact(a) && !PyBytes_CheckExact(a)) return false;
  return PyObject_RichCompareBool(a, b, Py_EQ) == 1;
}

int64_t last_hook(const Tensor& x) {
  const std::shared_ptr<Hooks>& hooks = x->line ? x->line->hooks : x->hooks;
  // Numbers of hooks only grow: count and last one tell any change.
  return hooks && !hooks->empty()
             ? hooks->back().first * 1024 + static_cast<int64_t>(hooks->size() % 1024)
             : 0;
}

using Entry = std::pair<py::object, py::object>;  // a key or an item, and what was there

struct Dict {
  py::object dict;
  std::string label;  // of its keys
  uint64_t version;
  bool tells;    // of its changes, by its version
  bool ordered;  // whether these stay in their order
  std::vector<Entry> entries;
  std::vector<std::string> labels;
  std::optional<std::vector<py::object>> keys;  // all that it may have, where it may get no other

  bool same_keys() const {
    if (PyDict_GET_SIZE(dict.ptr()) != static_cast<Py_ssize_t>(keys->size())) return false;
    return std::all_of(keys->begin(), keys->end(), [&](const py::object& key) {
      return PyDict_Contains(dict.ptr(), key.ptr()) == 1;
    });
  }
  // Whether the keys that were there are, in the order in which they were.
  bool in_order() const {
    auto entry = entries.begin();
    PyObject* key = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(dict.ptr(), &at, &key, nullptr);)
      if (entry != entries.end() && key == entry->first.ptr()) ++entry;
    return entry == entries.end() || !entry->second;
  }
};
struct Items {
  py::object list;
  std::vector<py::object> items;
  std::string label;
};
struct Cell {
  py::object cell, content;
  std::string label;
};
struct Function {
  py::object function, code, defaults, keyword_defaults;
  std::string label;
};
struct Object {
  py::object object, dict, mro;
  PyTypeObject* type;
  std::string label;
};
// The classes in which an attribute of o is looked for, besides a class's own class.
PyObject* mro_of(PyObject* o) {
  return (PyType_Check(o) ? reinterpret_cast<PyTypeObject*>(o) : Py_TYPE(o))->tp_mro;
}
PyObject* dict_of(PyObject* o) {
  PyObject** const at = _PyObject_GetDictPtr(o);
  return at ? *at : nullptr;
}
struct Flags {
  Tensor tensor;
  bool requires_grad;
  int64_t hooks;
  std::string label;
};
struct Call {
  py::object function, result;
  std::string label;
};

class Guards {
 public:
  void add_dict(py::object dict, const std::string& keys, std::string label,
                const py::list& entries, bool of_object) {
    const bool tells = objects_tell || !of_object, ordered = keys == "all";
    Dict d{dict, std::move(label), version_of(dict.ptr()), tells, ordered, {}, {}, {}};
    if (!keys.empty()) d.keys.emplace();
    PyObject* name = nullptr;
    for (Py_ssize_t at = 0; d.keys && PyDict_Next(dict.ptr(), &at, &name, nullptr);)
      d.keys->push_back(py::reinterpret_borrow<py::object>(name));
    for (py::handle entry : entries) {
      const auto t = py::reinterpret_borrow<py::tuple>(entry);
      const py::object key = t[0];
      PyObject* const value = PyDict_GetItemWithError(dict.ptr(), key.ptr());
      d.entries.emplace_back(key, py::reinterpret_borrow<py::object>(value));
      d.labels.push_back(t[1].cast<std::string>());
    }
    dicts_.push_back(std::move(d));
  }
  void add_list(py::list list, std::string label) {
    Items items{list, {}, std::move(label)};
    for (py::handle x : list) items.items.push_back(py::reinterpret_borrow<py::object>(x));
    lists_.push_back(std::move(items));
  }
  void add_cell(py::object cell, std::string label) {
    py::object content = py::reinterpret_borrow<py::object>(PyCell_GET(cell.ptr()));
    cells_.push_back({std::move(cell), std::move(content), std::move(label)});
  }
  void add_function(py::object f, std::string label) {
    const auto part = [&](PyObject* o) { return py::reinterpret_borrow<py::object>(o); };
    functions_.push_back({f, part(PyFunction_GET_CODE(f.ptr())),
                          part(PyFunction_GET_DEFAULTS(f.ptr())),
                          part(PyFunction_GET_KW_DEFAULTS(f.ptr())), std::move(label)});
  }
  void add_object(py::object o, std::string label) {
    auto dict = py::reinterpret_borrow<py::object>(dict_of(o.ptr()));
    auto mro = py::reinterpret_borrow<py::object>(mro_of(o.ptr()));
    PyTypeObject* const type = Py_TYPE(o.ptr());
    objects_.push_back({std::move(o), std::move(dict), std::move(mro), type, std::move(label)});
  }
  void add_tensor(const Tensor& x, std::string label) {
    tensors_.push_back({x, x.requires_grad(), last_hook(x), std::move(label)});
  }
  void add_call(py::object function, py::object result, std::string label) {
    calls_.push_back({std::move(function), std::move(result), std::move(label)});
  }

  // The first guard that fails, as text; null if none does.
  const char* changed() {
    for (Dict& d : dicts_) {
      const uint64_t version = version_of(d.dict.ptr());
      if (version == d.version && d.tells) continue;
      if ((d.keys && !d.same_keys()) || (d.ordered && !d.in_order())) return d.label.c_str();
      for (size_t i = 0; i < d.entries.size(); ++i) {
        auto& [key, value] = d.entries[i];
        PyObject* const now = PyDict_GetItemWithError(d.dict.ptr(), key.ptr());
        if (!now && PyErr_Occurred()) throw py::error_already_set();
        if (now == value.ptr()) continue;
        if (!same_constant(now, value.ptr())) return d.labels[i].c_str();
        value = py::reinterpret_borrow<py::object>(now);
      }
      d.version = version;
    }
    for (Items& l : lists_) {
      if (PyList_GET_SIZE(l.list.ptr()) != static_cast<Py_ssize_t>(l.items.size()))
        return l.label.c_str();
      for (size_t i = 0; i < l.items.size(); ++i)
        if (!same_constant(PyList_GET_ITEM(l.list.ptr(), static_cast<Py_ssize_t>(i)),
                           l.items[i].ptr()))
          return l.label.c_str();
    }
    for (Cell& c : cells_)
      if (!same_constant(PyCell_GET(c.cell.ptr()), c.content.ptr())) return c.label.c_str();
    for (const Function& f : functions_)
      if (PyFunction_GET_CODE(f.function.ptr()) != f.code.ptr() ||
          PyFunction_GET_DEFAULTS(f.function.ptr()) != f.defaults.ptr() ||
          PyFunction_GET_KW_DEFAULTS(f.function.ptr()) != f.keyword_defaults.ptr())
        return f.label.c_str();
    for (const Object& o : objects_)
      if (Py_TYPE(o.object.ptr()) != o.type || dict_of(o.object.ptr()) != o.dict.ptr() ||
          mro_of(o.object.ptr()) != o.mro.ptr())
        return o.label.c_str();
    for (const Flags& t : tensors_)
      if (t.tensor.requires_grad() != t.requires_grad || last_hook(t.tensor) != t.hooks)
        return t.label.c_str();
    for (const Call& c : calls_) {
      const py::object now = c.function();
      const int same = PyObject_RichCompareBool(now.ptr(), c.result.ptr(), Py_EQ);
      if (same < 0) throw py::error_already_set();
      if (!same) return c.label.c_str();
    }
    return nullptr;
  }

  int traverse(visitproc visit, void* arg) const {
    const auto all = [&](std::initializer_list<const py::object*> objects) {
      for (const py::object* o : objects) Py_VISIT(o->ptr());
      return 0;
    };
    int stop = 0;
    for (const Dict& d : dicts_) {
      if ((stop = all({&d.dict}))) return stop;
      for (const auto& [key, value] : d.entries)
        if ((stop = all({&key, &value}))) return stop;
      if (d.keys)
        for (const py::object& key : *d.keys)
          if ((stop = all({&key}))) return stop;
    }
    for (const Items& l : lists_) {
      if ((stop = all({&l.list}))) return stop;
      for (const py::object& x : l.items)
        if ((stop = all({&x}))) return stop;
    }
    for (const Cell& c : cells_)
      if ((stop = all({&c.cell, &c.content}))) return stop;
    for (const Function& f : functions_)
      if ((stop = all({&f.function, &f.code, &f.defaults, &f.keyword_defaults}))) return stop;
    for (const Object& o : objects_)
      if ((stop = all({&o.object, &o.dict, &o.mro}))) return stop;
    for (const Call& c : calls_)
      if ((stop = all({&c.function, &c.result}))) return stop;
    return 0;
  }
  void clear() { *this = {}; }

 private:
  std::vector<Dict> dicts_;
  std::vector<Items> lists_;
  std::vector<Cell> cells_;
  std::vector<Function> functions_;
  std::vector<Object> objects_;
  std::vector<Flags> tensors_;
  std::vector<Call> calls_;
};

Guards* guards_of(PyObject* self) {
  return py::detail::is_holder_constructed(self) ? py::cast<Guards*>(py::handle(self)) : nullptr;
}

// ---- the code that a step runs ----

// Between start and stop: which code objects ran, with their globals. A call of a function in
// `refused` (by module and name) from code outside the standard library, or of one in `always` from
// any, is an error, and so is one of `seed` (random.Random.seed's code) without a seed: what it
// gives changes with each call.
class Recorder {
 public:
  Recorder(py::object refused, py::object always, py::object seed, std::string library)
      : refused_(std::move(refused)),
        always_(std::move(always)),
        seed_(std::move(seed)),
        library_(std::move(library)) {}
  ~Recorder() { stop(); }
  Recorder(const Recorder&) = delete;

  void start() {
    const PyThreadState* state = PyThreadState_Get();
    former_ = state->c_profilefunc;
    former_object_ = py::reinterpret_borrow<py::object>(state->c_profileobj);
    self_ = py::capsule(this, [](void*) {});
    PyEval_SetProfile(on_event, self_.ptr());
    running_ = true;
  }
  void stop() {
    if (!std::exchange(running_, false)) return;
    PyEval_SetProfile(former_, former_object_.ptr());
  }
  const std::string& refusal() const { return refusal_; }
  py::list codes() const {
    py::list all;
    for (const auto& [code, globals] : codes_) all.append(py::make_tuple(code, globals));
    return all;
  }

 private:
  static int on_event(PyObject* self, PyFrameObject* frame, int what, PyObject* arg) {
    const PyObject* const noted = guarded(
        [&]() -> PyObject* { return note(self, frame, what, arg) == 0 ? Py_None : nullptr; });
    return noted ? 0 : -1;
  }
  static int note(PyObject* self, PyFrameObject* frame, int what, PyObject* arg) {
    auto& r = *static_cast<Recorder*>(PyCapsule_GetPointer(self, nullptr));
    if (r.importing_) {  // what runs at a module's first import is no part of the step
      r.importing_ += what == PyTrace_CALL ? 1 : what == PyTrace_RETURN ? -1 : 0;
    } else if (what == PyTrace_CALL) {
      const auto code =
          py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
      if (r.draws_seed(code, frame)) return -1;
      if (is_import(code))
        r.importing_ = 1;
      else if (r.seen_.insert(code.ptr()).second)
        r.codes_.emplace_back(code, py::reinterpret_steal<py::object>(PyFrame_GetGlobals(frame)));
    } else if (what == PyTrace_C_CALL && PyCFunction_Check(arg) && r.refuses(frame, arg)) {
      return -1;
    }
    return r.former_ ? r.former_(r.former_object_.ptr(), frame, what, arg) : 0;
  }

  static bool is_import(py::handle code) {
    const char* file = PyUnicode_AsUTF8(reinterpret_cast<PyCodeObject*>(code.ptr())->co_filename);
    return file && std::string_view(file).starts_with("<frozen importlib");
  }

  bool refuses(PyFrameObject* frame, PyObject* function) {
    const auto* f = reinterpret_cast<PyCFunctionObject*>(function);
    if (!passed_.insert(f->m_ml).second) return false;
    const py::handle owner = f->m_self && PyType_Check(f->m_self) ? f->m_self : f->m_module;
    std::string name = f->m_ml->ml_name;
    if (owner && PyUnicode_Check(owner.ptr()))
      name = owner.cast<std::string>() + "." + name;
    else if (owner && PyType_Check(owner.ptr()))
      name = reinterpret_cast<PyTypeObject*>(owner.ptr())->tp_name + ("." + name);
    const bool always = always_.contains(py::str(name));
    if (!always && !refused_.contains(py::str(name))) return false;
    passed_.erase(f->m_ml);  // the next caller may be another
    return refuse(name, frame, always);
  }
  // Whether random.Random.seed(None) is called.
  bool draws_seed(py::handle code, PyFrameObject* frame) {
    if (code.ptr() != seed_.ptr()) return false;
    const py::handle here(reinterpret_cast<PyObject*>(frame));
    return here.attr("f_locals")["a"].is_none() && refuse("random.Random.seed", frame, false);
  }
  // Not where the standard library calls, but for what only hands on what it is given.
  bool refuse(const std::string& name, PyFrameObject* frame, bool always) {
    auto caller =
        py::reinterpret_borrow<py::object>(py::handle(reinterpret_cast<PyObject*>(frame)));
    std::string file = file_of(caller);
    for (; !caller.attr("f_back").is_none() && hands_on(file); file = file_of(caller))
      caller = caller.attr("f_back");
    if (!always && in_library(file)) return false;
    refusal_ = "compile: the step calls " + name + " at " + file + ":" +
               py::str(caller.attr("f_lineno")).cast<std::string>() +
               ", which gives another value at each call, and a compiled step would keep the "
               "first; call it outside, and pass the value as a tensor argument";
    PyErr_SetString(PyExc_ValueError, refusal_.c_str());
    return true;
  }
  static std::string file_of(py::handle frame) {
    return frame.attr("f_code").attr("co_filename").cast<std::string>();
  }
  bool in_library(const std::string& file) const {
    return file.starts_with("<frozen") ||
           (file.starts_with(library_) && file.find("-packages") == std::string::npos);
  }
  bool hands_on(const std::string& file) const {
    const std::string place = file.starts_with("<") ? "<frozen " : library_ + "/";
    for (const char* name :
         {"pathlib", "genericpath", "posixpath", "os.py", "os>", "glob", "random.py"})
      if (file.starts_with(place + name)) return true;
    return false;
  }

  py::object refused_, always_, seed_;
  std::string library_, refusal_;
  py::object self_, former_object_;
  Py_tracefunc former_ = nullptr;
  bool running_ = false;
  int importing_ = 0;  // calls within an import
  std::unordered_set<PyObject*> seen_;
  std::unordered_set<PyMethodDef*> passed_;
  std::vector<Entry> codes_;
};

}  // namespace

const char* changed_guard(py::handle guards) { return guards_of(guards.ptr())->changed(); }

void add_guards(py::module_& m) {
  py::class_<Guards>(m, "_Guards", py::custom_type_setup([](PyHeapTypeObject* heap) {
                       PyTypeObject& type = heap->ht_type;
                       type.tp_flags |= Py_TPFLAGS_HAVE_GC;
                       type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
                         Py_VISIT(Py_TYPE(self));
                         const Guards* guards = guards_of(self);
                         return guards ? guards->traverse(visit, arg) : 0;
                       };
                       type.tp_clear = [](PyObject* self) {
                         if (Guards* guards = guards_of(self)) guards->clear();
                         return 0;
                       };
                     }),
                     "What a trace read of Python's state, with what it was.")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self) { construct(self, std::make_unique<Guards>()); },
          py::detail::is_new_style_constructor())
      .def("add_dict", &Guards::add_dict, py::arg("dict"), py::arg("keys"), py::arg("label"),
           py::arg("entries"), py::arg("of_object"),
           "entries: (key, what messages call it); a key may be absent. keys: which may not be "
           "added, \"all\" (and their order stays), \"names\" or none.")
      .def("add_list", &Guards::add_list)
      .def("add_cell", &Guards::add_cell)
      .def("add_function", &Guards::add_function)
      .def("add_object", &Guards::add_object, "Its class, and which dict its attributes are in.")
      .def("add_tensor", &Guards::add_tensor, "Its requires_grad and its hooks.")
      .def("add_call", &Guards::add_call, "That function() is still equal to a result.")
      .def(
          "changed",
          [](Guards& g) -> py::object {
            const char* what = g.changed();
            return what ? py::object(py::str(what)) : py::object(py::none());
          },
          "The first guard that fails, as text, or None.");
  m.def(
      "_type_dict",
      [](py::handle type) {
        return py::reinterpret_borrow<py::object>(
            reinterpret_cast<PyTypeObject*>(type.ptr())->tp_dict);
      },
      "The dict of a class, itself.");
  py::class_<Recorder>(m, "_Recorder", "Which code runs between start and stop.")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self, py::object refused, py::object always,
             py::object seed, std::string library) {
            construct(self, std::make_unique<Recorder>(std::move(refused), std::move(always),
                                                       std::move(seed), std::move(library)));
          },
          py::detail::is_new_style_constructor(), py::arg("refused"), py::arg("always"),
          py::arg("seed"), py::arg("library"))
      .def("start", &Recorder::start)
      .def("stop", &Recorder::stop)
      .def_property_readonly("refusal", &Recorder::refusal, "The last error raised, or nothing.")
      .def("codes", &Recorder::codes, "[(code, its globals)]");
}

}  // namespace wengert::bindings
