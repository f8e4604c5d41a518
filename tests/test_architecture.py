"""The shape of the house: who may import whom, what is light, how long things are."""

import ast
import doctest
import graphlib
import importlib
from pathlib import Path

import pytest

import kerastrain
from kerastrain.cli.tables import TABLES
from kerastrain.registry import Registry

PACKAGE = Path(kerastrain.__file__).parent

# A module imports only from what stands before it. "models" is the table of a folder,
# "models.*" are its leaves, which never import each other. A new file gets its place.
ORDER = {
    "words": """errors secrets store events progress registry optimizers columns exports
        estimators models sources trackers config reserved schema""",
    "data": """arrays memory environment resources kinds remote files selection source
        unify tablefile textfiles dialect lines malformed flat folders published tensors
        duckfile sqlrows sources.* parts assign timesplit splitrows groupsplit
        splitevents split encoded formats layers parsing textvectors columns.*
        statistics mixtures detection quality targets splitkeys texts profile ingest
        features pipeline blocks resampling surrogate""",
    "parts": """nets encodings forest kernels sklearn_splines sklearn_inputs models.*
        piecewise layers_decision calibration thresholds intervals decision metrics
        objective comparison imbalance runtime schedules engine evaluation training
        baselines curves trackers.* exports.* parity explaining""",
    "learners": """prepare shift timedrift estimator monotone boosting sklearn_base
        sklearn_linear sklearn_trees estimators.* recipes chain learner
        estimator_learner""",
    "runs": """report assessment leaderboard fitting ensembles deciding foldscores folds
        inputs gate registered saved serving direct resumption given scene run
        differences paired comparing reproduction guests""",
    "commands": "kerastrain cli __main__",
}
PLACES = [name for box in ORDER.values() for name in box.split()]
FOLDERS = {name.removesuffix(".*") for name in PLACES if name.endswith(".*")}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".") or "kerastrain"


TREES = {module_name(p): ast.parse(p.read_text()) for p in PACKAGE.rglob("*.py")}


def imports(module: str) -> set[str]:
    """Modules of ours that a module names in any import, also inside functions."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module == "kerastrain":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import by the full name"
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("kerastrain.") for name in found} & TREES.keys()


def place(module: str) -> int:
    folder, dot, _ = module.partition(".")
    leaf = f"{folder}.*" if folder in FOLDERS and dot else folder
    assert leaf in PLACES, f"{module} has no place in ORDER of {__file__}"
    return PLACES.index(leaf)


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_imports_only_from_what_stands_before_it(module):
    folder = module.partition(".")[0]
    for other in imports(module) - {module}:
        is_same_stage = other.partition(".")[0] == folder and folder not in FOLDERS
        assert is_same_stage or place(other) < place(module), f"{module} <- {other}"


def test_no_modules_import_each_other():
    graph = {module: imports(module) - {module} for module in TREES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_every_place_in_the_order_is_taken():
    assert {place(module) for module in TREES} == set(range(len(PLACES)))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(TREES[module_name(path)]):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node
            size = node.end_lineno - first.lineno + 1
            assert size <= 50, f"{node.name} has {size} lines"


def test_the_words_and_the_package_load_nothing_heavy(run_python):
    names = ["kerastrain", "kerastrain.cli"]
    names += [f"kerastrain.{name}" for name in ORDER["words"].split()]
    heavy = {"tensorflow", "keras", "pandas", "pyarrow", "duckdb", "sklearn", "plotly"}
    code = (
        f"import sys, {', '.join(names)}; print(sorted(sys.modules.keys() & {heavy}))"
    )
    assert run_python(code).strip() == "[]"


def test_the_package_names_for_type_checkers_what_it_gives():
    imported = [
        alias.name
        for node in ast.walk(TREES["kerastrain"])
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kerastrain.")
        for alias in node.names
    ]
    assert sorted(imported) == sorted(kerastrain.__all__)


@pytest.mark.parametrize("name", kerastrain.__all__)
def test_every_public_name_resolves(name):
    found = getattr(kerastrain, name)
    assert found.__name__ == name
    assert found.__doc__


def test_a_name_that_the_package_lacks_is_an_attribute_error():
    with pytest.raises(
        AttributeError, match="module 'kerastrain' has no attribute 'x'"
    ):
        kerastrain.x  # noqa: B018


def tables() -> list[tuple[str, Registry]]:
    found = []
    for command, where in TABLES.items():
        module, _, attribute = where.partition(":")
        found.append((command, getattr(importlib.import_module(module), attribute)))
    return found


ENTRIES = [(command, table, name) for command, table in tables() for name in table]


@pytest.mark.parametrize(("command", "table", "name"), ENTRIES)
def test_every_entry_of_a_table_can_be_told_without_its_import(command, table, name):
    assert len(table.describe(name)) > 20
    undocumented = set(table.options(name)) - set(table.option_docs(name))
    assert not undocumented, f"options of {command} {name} without a line under Args:"
    assert table.check(name, {}, path=command).keys() == table.options(name).keys()


def test_every_folder_that_is_a_table_has_a_command():
    assert {where.partition(":")[0] for where in TABLES.values()} >= {
        f"kerastrain.{folder}" for folder in FOLDERS
    }


DOCTESTS = [module for module, tree in TREES.items() if ">>> " in ast.unparse(tree)]


@pytest.mark.parametrize("module", sorted(DOCTESTS))
def test_examples_in_docstrings_give_what_they_show(module):
    loaded = importlib.import_module(f"kerastrain.{module}")
    results = doctest.testmod(loaded)
    assert (results.failed, results.attempted > 0) == (0, True)
