"""The experiment stands on the product; its baselines know neither corpora nor protocol."""

import ast
from pathlib import Path

import pytest
from tests.test_imports import imported_names

import sspd2023

PACKAGE = Path(sspd2023.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BASELINES = {"signal", "config", "extras", "errors", "models", "objectives", "runtime"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(module):
    names = imported_names(ast.parse(module.read_text(encoding="utf-8")))
    assert not {name for name in names if name.split(".")[0] in ("lightning", "pytorch_lightning")}
    if module.parent.name == "baselines":
        of_the_product = {name.split(".")[1] for name in names if name.startswith("sottovoce.")}
        assert of_the_product <= BASELINES
        own = {name.split(".")[1] for name in names if name.startswith("sspd2023.")}
        assert own <= {"baselines", "poster", "settings"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_printed(module):
    calls = (node for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
