"""The texts for users, taken apart: their blocks, commands, code and tables."""

import functools
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
BOOK = ROOT / "experiments" / "docs"
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in BOOK.rglob("*.md")))
DOCUMENTS = (*PAGES, "experiments/README.md", "benchmarks/README.md")


@functools.cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text()


def blocks(document: str) -> list[tuple[str, str]]:
    """Language and text of what stands between three backquotes and three more."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(document), re.DOTALL | re.MULTILINE)
    assert {language for language, _ in found} <= {"sh", "python", "math", "c", "json", ""}
    return found


def prose(document: str) -> str:
    """The text without its blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(document), flags=re.DOTALL | re.MULTILINE)


def code(document: str) -> list[str]:
    """What stands between two backquotes in a text."""
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose(document))]


def commands(text: str) -> list[str]:
    """The commands of a block, one after the other, without comments and the path of the environment."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    joined = [shlex.join(each).replace("'&&'", "&&") for each in words if each]
    return [each.removeprefix(".venv/bin/") for line in joined for each in line.split(" && ")]


def all_commands(document: str) -> list[str]:
    return [each for language, text in blocks(document) if language == "sh" for each in commands(text)]


def rows(document: str, head: str) -> list[list[str]]:
    """The cells of each row of the tables whose first head is this one."""
    tables = re.findall(rf"^\| {head} \|.*\n\| ---.*\n((?:\|.*\n)+)", text_of(document), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def masked(text: str) -> str:
    """An output without its numbers, which depend on the processor."""
    return " ".join(re.sub(r"[\d.,-]+", "#", text).split())
