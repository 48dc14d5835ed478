"""The shape of the house: imports flow one way, and what needs no torch imports without it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tacit

PACKAGE = Path(tacit.__file__).parent

# A room may import the rooms before it, and itself; never a later one, not even inside a function.
ORDER = (
    "environment errors trace grading arithmetic formats tasks prompts curation rendering models calculator student "
    "teacher stages implicit checkpoint socratic evaluation training recipe report run cli __main__"
).split()
TORCH_FREE = "errors trace grading arithmetic formats tasks prompts curation rendering teacher".split()


def modules() -> Iterator[tuple[str, str, Path]]:
    """Room, dotted name and file of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield parts[0], ".".join(("tacit", *(part for part in parts if part != "__init__"))), path


def imported_rooms(tree: ast.AST, name: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and room of every import of tacit's own, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = node.module or ""
            if node.level:
                base = name.split(".")[: len(name.split(".")) + is_package - node.level]
                parent = ".".join([*base, *filter(None, [node.module])])
            targets = [f"{parent}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target == "tacit" or target.startswith("tacit."):  # "tacit" itself reaches every room
                yield node.lineno, target.removeprefix("tacit").removeprefix(".").split(".")[0]


MODULES = list(modules())


@pytest.mark.parametrize(("room", "name", "path"), MODULES, ids=[name for _, name, _ in MODULES])
def test_imports_flow_one_way(room: str, name: str, path: Path) -> None:
    assert room in ORDER, f"{name}: give its room a place in ORDER"
    allowed = {*ORDER[: ORDER.index(room) + 1]}
    tree = ast.parse(path.read_text("utf-8"))
    late = [
        f"{path.relative_to(PACKAGE)}:{line}: {room} imports the later room {other!r}"
        for line, other in imported_rooms(tree, name, path.name == "__init__.py")
        if other not in allowed
    ]
    assert not late, "\n".join(late)


def test_the_check_itself_sees_every_kind_of_import() -> None:
    source = """
import tacit
import tacit.run
import tacitly, os.path
from tacit import cli as c
from tacit.training.trainer import X
def f():
    from tacit.report import y
    from ..recipe import z
    from .. import checkpoint
    from . import sibling
    import torch, tacit.models as m
"""
    found = imported_rooms(ast.parse(source), "tacit.tasks.task", is_package=False)
    assert sorted(room for _, room in found) == sorted(
        ["", *"run cli training report recipe checkpoint tasks models".split()]
    )
    assert [room for _, room in imported_rooms(ast.parse("from . import a"), "tacit.tasks", True)] == ["tasks"]


def run_without(*blocked: str, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process where these packages cannot be imported."""
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    return subprocess.run([sys.executable, "-c", f"import sys\n{block}{code}"], capture_output=True, text=True)


def test_the_package_itself_imports_only_what_is_asked_for() -> None:
    code = "import tacit\nassert [m for m in sys.modules if m.startswith('tacit.')] == []\ntacit.Trace('q', (), 'a')"
    result = run_without("torch", "transformers", "datasets", "numpy", code=code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", tacit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(tacit, name).__name__ == name


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'tacit' has no attribute 'Tracer'"):
        tacit.Tracer  # noqa: B018


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_free_rooms_import_without_torch(room: str) -> None:
    result = run_without("torch", "transformers", "datasets", code=f"import tacit.{room}")
    assert result.returncode == 0, result.stderr


def test_data_is_made_written_and_read_without_torch(tmp_path: Path) -> None:
    code = f"""
from tacit.formats import read, write
from tacit.tasks import TASKS
for task in filter(lambda task: task.options, TASKS.values()):
    traces = task.make(5, seed=0)
    for format in ("tacit", "icot", "gsm8k"):
        write(traces, {str(tmp_path / "file")!r}, format)
        assert [t.question for t in read({str(tmp_path / "file")!r}, format)] == [t.question for t in traces]
"""
    result = run_without("torch", "transformers", "datasets", "numpy", code=code)
    assert result.returncode == 0, result.stderr


def test_the_block_blocks() -> None:
    result = run_without("torch", code="import tacit.models")
    assert result.returncode != 0
    assert "torch" in result.stderr
