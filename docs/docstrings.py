"""The package's docstrings as reStructuredText, and the examples of a page.

Docstrings are plain text, for `help()`: paragraphs; indented tables of a name and what it means, at
least two spaces between; other indented text, which is code; and examples, `>>>`.
"""

import re
from collections.abc import Iterator
from typing import Any

ENTRY = re.compile(r"([\w.*]+(?:\([\w, ]*\))?(?:(?:, | and |/)[\w.*]+)*)(?: {2,}|: +)(\S.*)")


def code(page: str) -> str:
    """The examples of a Markdown page: its blocks of Python with a prompt, other lines blank."""
    lines, inside = [], False
    for line in page.splitlines():
        if line.startswith("```"):
            inside = not inside and line.strip() == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Prose: what is in backticks stays, as code; the markup of reStructuredText is text."""
    parts = re.split(r"``?([^`]+)``?", text)
    parts[::2] = [re.sub(r"([*_|\\<>])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f" ``{part.strip()}``\\ " for part in parts[1::2]]
    return "".join(parts).strip() or "\\ "


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones; an indented run goes on over blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            if block and line.startswith(" ") != block[0].startswith(" ") and is_table(block):
                yield block
                block = []
            block.append(line)
        elif block:
            yield block
            block = []


def is_table(block: list[str]) -> bool:
    """Whether each line is a name with its meaning, or goes on with one further in."""
    indent = len(block[0]) - len(block[0].lstrip())
    firsts = [x.strip() for x in block if len(x) - len(x.lstrip()) == indent]
    return all(ENTRY.fullmatch(x) and (indent or ": " in x) for x in firsts)


def rst(doc: str) -> list[str]:
    """A docstring, dedented, as lines of reStructuredText."""
    out: list[str] = []
    for block in blocks(doc.splitlines()):
        if block[0].lstrip().startswith(">>>"):
            cut = len(block[0]) - len(block[0].lstrip())
            out += [line[cut:] for line in block]
        elif is_table(block):
            out += entries(block)
        elif block[0].startswith(" "):
            out += ["::", "", *(f"   {line}" for line in block)]
        elif any(ENTRY.fullmatch(x) and ": " in x for x in block[1:]):  # some of it is a table
            out += [f"{' ' if x.startswith(' ') else '| '}{escaped(x.strip())}" for x in block]
        else:
            out.append(escaped(" ".join(line.strip() for line in block)))
        out.append("")
    return out


def entries(block: list[str]) -> list[str]:
    """A table as a list of definitions."""
    indent = len(block[0]) - len(block[0].lstrip())
    items: list[tuple[str, str]] = []
    for line in block:
        found = ENTRY.fullmatch(line.strip())
        if found and len(line) - len(line.lstrip()) == indent:
            items.append((found[1], found[2]))
        else:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
    return [row for name, text in items for row in (f"``{name}``", f"   {escaped(text)}")]


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """For Sphinx: a docstring is converted in place."""
    if "_signature" not in dir(obj) and lines and re.match(r"\w+\(.*\) -> ", lines[0]):
        del lines[0]  # pybind11's signature, which is shown already
    lines[:] = rst("\n".join(lines).strip("\n"))


def signature(
    app: Any, what: str, name: str, obj: Any, options: Any, args: Any, result: Any
) -> Any:
    """For Sphinx: what help() shows, without quotes and the modules of types."""

    def short(text: str | None) -> str | None:
        text = text and re.sub(r"~?\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)
        return text if text is None or "Literal" in text else text.replace("'", "")

    return short(args), short(result)
