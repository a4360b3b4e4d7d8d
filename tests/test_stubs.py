"""The committed type stub of the compiled module says what the module says.

After a change in csrc/bindings, write it anew, with Python 3.11: `python tests/test_stubs.py`.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

STUB = Path(__file__).parent.parent / "python" / "wengert" / "_core.pyi"

# The bindings read many arguments themselves; their names say what they take.
TYPES = {
    "axis": "int | Sequence[int] | None",
    "dtype": "DType | str | None",
    "device": "str | None",
    "shape": "int | Sequence[int]",
    "axes": "Sequence[int]",
    "other": "Operand",
    "a": "Operand",
    "b": "Operand",
    "dtype_or_device": "DType | str",
    "tensors": "Sequence[Tensor]",
}
# The tool reads pybind11's signatures from the first line of docstrings, where help() shows others.
RUN = r"""
import inspect, re, sys, types, wengert
from pybind11_stubgen import main
from pybind11_stubgen.parser.mixins.parse import ExtractSignaturesFromPybind11Docstrings as Parser

UNARY = {
    "builtin_function_or_method": "(x: object) -> wengert._core.Tensor",
    "method_descriptor": "(self: wengert._core.Tensor) -> wengert._core.Tensor",
}

def with_signature(function):
    text = getattr(function, "_signature", None)
    if getattr(function, "__text_signature__", None) and not hasattr(object, function.__name__):
        text = UNARY.get(type(function).__name__)
    if text is None:
        return function
    doc = f"{function.__name__}{text}\n\n{function.__doc__ or ''}\n"
    return types.SimpleNamespace(__name__=function.__name__, __doc__=doc)

for name in wengert._names.TENSOR:  # they stand for names that there are not
    if isinstance(vars(wengert.Tensor).get(name), wengert._names.Missing):
        delattr(wengert.Tensor, name)
for name in dir(wengert.Tensor):  # of modules that are loaded when they are asked for
    method = getattr(wengert.Tensor, name)
    if hasattr(method, "__wrapped__"):
        text = re.sub(r"^\(x: '\w+'", "(self: Tensor", str(inspect.signature(method)))
        text = text.replace("'", "").replace("Sequence", "collections.abc.Sequence")
        text = re.sub(r"\bTensor\b", "wengert._core.Tensor", text)
        text = re.sub(r"\b(ValuesAndIndices|Histogram)\b", r"wengert.order.\1", text)
        method._signature = text.replace("Any", "typing.Any")
        method.__doc__ = inspect.getdoc(method)

former = Parser.handle_function
Parser.handle_function = lambda self, path, f: former(self, path, with_signature(f))
main(sys.argv[1:])
"""
ALIASES = """
Operand: typing.TypeAlias = "Tensor | int | float | bool | ndarray[typing.Any, typing.Any]"
"""


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RUN, "wengert._core", "-o", folder]
        subprocess.run(command, check=True, capture_output=True, text=True)
        text = (Path(folder) / "wengert" / "_core.pyi").read_text()
    text = text.replace(
        "import typing_extensions\n",
        "import typing_extensions\nfrom numpy import ndarray\nfrom .random import Generator\n",
    )
    text = text.replace("collections.abc.Sequence", "Sequence")
    text = text.replace(
        "import collections.abc\n", "import collections.abc\nfrom collections.abc import Sequence\n"
    )
    for name, kind in TYPES.items():
        text = re.sub(rf"\b{name}: typing\.Any\b", f"{name}: {kind}", text)
    # Operators give a tensor (or NotImplemented, which Python handles).
    text = re.sub(r"(def __\w+__\(self, other: .*\)) -> typing\.Any:", r"\1 -> Tensor:", text)
    text = re.sub(
        r"(def __(?:eq|ne)__\(self, )other: Operand\) -> Tensor:",
        r"\1other: object) -> Tensor: # type: ignore[override]",
        text,
    )
    text = re.sub(r"(def \w+\(a: Operand, b: Operand\)) -> typing\.Any:", r"\1 -> Tensor:", text)
    text = re.sub(
        r"def (reshape|view|permute|expand)\(self, \*args\)",
        r"def \1(self, *args: int | Sequence[int])",
        text,
    )
    text = text.replace("def grad(self) -> Tensor:", "def grad(self) -> Tensor | None:")
    text = text.replace("def grad(self, arg1: typing.Any)", "def grad(self, arg1: Tensor | None)")
    text = re.sub(r"def dtype\(self\) -> [\w.]+:", "def dtype(self) -> DType:", text)
    text = text.replace("-> NoReturn:", "-> typing.NoReturn:")
    text = text.replace("def __hash__(self):", "def __hash__(self) -> int:")
    text = re.sub(r"(-> |: )tuple\b(?!\[)", r"\1tuple[int, ...]", text)
    text = re.sub(r"(-> |: )list\b(?!\[)", r"\1list[typing.Any]", text)
    text = re.sub(
        r"collections\.abc\.Callable\b(?!\[)", "collections.abc.Callable[..., typing.Any]", text
    )
    text = re.sub(r"collections\.abc\.Iterator\b(?!\[)", "collections.abc.Iterator[Tensor]", text)
    text = re.sub(r"(def __(?:ge|gt|le|lt)__\(.*\) -> Tensor:)", r"\1  # type: ignore[misc]", text)
    # Inside the class, `bool` and `float` are its methods.
    before, body = text.split("class Tensor:", 1)
    body, after = re.split(r"\n(?=def )", body, maxsplit=1)
    body = re.sub(r"(-> |: |\| |\[)(bool|float|int)\b", r"\1builtins.\2", body)
    text = before.replace("import typing\n", "import builtins\nimport typing\n", 1)
    text += "class Tensor:" + body + "\n" + after
    head, rest = text.split("class OutOfMemoryError", 1)
    return head + ALIASES.lstrip() + "class OutOfMemoryError" + rest


def test_stub_is_current() -> None:
    if importlib.util.find_spec("pybind11_stubgen") is None:
        pytest.skip("pybind11-stubgen is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("other versions of Python have other base methods; the stub is of 3.11")
    assert STUB.read_text() == generate(), "the bindings have changed: python tests/test_stubs.py"


if __name__ == "__main__":
    STUB.write_text(generate())
