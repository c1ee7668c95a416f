"""The experiment stands on the product: only `sottovoce.training` knows lightning, only the terminal prints."""

import ast
from pathlib import Path

import pytest
from tests.test_imports import imported_names

import images

PACKAGE = Path(images.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(module):
    names = imported_names(ast.parse(module.read_text(encoding="utf-8")))
    assert not {name for name in names if name.split(".")[0] in ("lightning", "pytorch_lightning", "sspd2023")}
    parts = {name.split(".")[1] for name in names if name.startswith("sottovoce.")}
    assert not parts & {"signal", "engine", "data", "service", "archive", "integrations", "cli", "weights"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_printed(module):
    calls = (node for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
