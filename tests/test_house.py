import ast
import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sd4match_lib.reproduce.study import Study

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted(
    path
    for path in (PROJECT / "results" / "overnight" / "notebooks").glob("*.ipynb")
    if not path.stem.endswith(".partial")
)


def constraints():
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def installed_by(name, extras=frozenset(), seen=None):
    """The requirements that installing a distribution brings here, by canonical name."""
    seen = {} if seen is None else seen
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in (*extras, "")]
        if requirement.marker and not any(requirement.marker.evaluate(env) for env in wanted):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen:
            seen[key] = requirement
            installed_by(requirement.name, requirement.extras, seen)
    return seen


def test_every_package_that_an_install_brings_is_pinned_and_is_that_version():
    pinned = dict(line.split("==") for line in constraints())
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    assert pinned["torch"] == "2.13.0"
    for (name, _), requirement in installed_by("sd4match", ["dev"]).items():
        exact = [part.version for part in requirement.specifier if part.operator == "=="]
        # A package may pin its own parts itself, as torch does its CUDA libraries.
        assert name in pinned or exact, f"{name} is not in constraints.txt"
        if name in pinned:
            assert metadata.version(name).split("+")[0] == pinned[name]


def test_conda_installs_what_make_installs():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    python, pip, lines = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    makefile = (PROJECT / "Makefile").read_text()
    constrained = re.search(r"^PIP := .*-check (.*)$", makefile, re.MULTILINE).group(1)
    recipes = re.findall(r"^\t\$\(PIP\) (.*)$", makefile, re.MULTILINE)
    assert recipes == ["-e .", "-e '.[dev]'"]
    assert " ".join(lines["pip"]) == f"{constrained} -e .[dev]" == "-c constraints.txt -e .[dev]"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11.5"
    assert project["tool"]["mypy"]["python_version"] == "3.11"


def test_uv_locks_the_versions_that_pip_installs():
    locked = tomllib.loads((PROJECT / "uv.lock").read_text())["package"]
    locked = {package["name"]: package.get("version") for package in locked}
    pinned = dict(line.split("==") for line in constraints())
    assert {name: locked[canonicalize_name(name)] for name in pinned} == pinned
    # Made from what pyproject.toml asks for now.
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert all(canonicalize_name(Requirement(line).name) in locked for line in asked)


def test_make_installs_once_and_is_quick_afterwards(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((PROJECT / name).read_text())

    def plan(target):
        command = ["make", "--dry-run", "--no-print-directory", target]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    for target in ("reproduce", "test", "quick", "lab", "lint"):
        assert "-m venv .venv" in plan(target) and "pip install" in plan(target)
        # Linters, the browser and what makes the documentation are no matter of who only reproduces.
        assert ("[dev]" in plan(target)) == (target in ("test", "quick", "lint"))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert plan("reproduce").strip() == ".venv/bin/sd4match reproduce --profile mini"
    assert "[dev]" in plan("test") and "venv .venv" not in plan("test")
    (tmp_path / ".venv" / ".installed-dev").touch()
    assert plan("test").split() == (
        [
            ".venv/bin/ruff",
            "check",
            ".venv/bin/ruff",
            "format",
            "--check",
            ".venv/bin/mypy",
            ".venv/bin/lint-imports",
            ".venv/bin/python",
            "-m",
            "pytest",
            *["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"],
        ]
    )
    assert plan("quick").strip().endswith('--no-loadscope-reorder -m "not slow"')
    (tmp_path / "constraints.txt").write_text("changed")
    assert "pip install" in plan("lab")


def test_the_package_ships_what_it_reads():
    patterns = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = PROJECT / "sd4match_lib"
    shipped = {path for pattern in patterns["sd4match_lib"] for path in package.glob(pattern)}
    data = {
        path
        for path in package.rglob("*")
        if path.suffix in {".toml", ".csv", ".mplstyle", ".safetensors", ".js", ".css", ".svg"}
    }
    assert data and data <= shipped


def test_code_that_could_run_what_it_reads_is_nowhere():
    loads = re.compile(r"\bimport pickle\b|\beval\(|allow_pickle=True")
    opened = []
    for path in (PROJECT / "sd4match_lib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not loads.search(text.replace(".eval()", "")), path
        opened += [(path.name, call) for call in re.findall(r"torch\.load\([^)]*\)", text)]
    # The authors' checkpoints are the one thing that comes as a pickle: tensors only.
    assert [name for name, _ in opened] == ["released.py"] and "weights_only=True" in opened[0][1]


def test_files_stay_small_enough_to_read():
    for path in (PROJECT / "sd4match_lib").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_stripped_and_thin(path):
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    identities = [cell["id"] for cell in raw["cells"]]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", identity) for identity in identities), "ids are for people"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    for cell in code:
        lines = [
            line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        assert len(lines) <= 12, f"cell {cell.id} has {len(lines)} lines of code"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_sees_every_parameter(path):
    notebook = nbformat.read(path, as_version=4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = set()
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), "the parameters cell holds assignments only"
        # A profile is TOML, which knows no None: the whole is 0 in all notebooks.
        assert ast.literal_eval(statement.value) is not None
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        names.add(target.id)
    seen = papermill.inspect_notebook(str(path))
    assert set(seen) == names and {"PROFILE", "SEED"} <= names
    assert all(name.isupper() for name in names)
    assert all(parameter["help"] for parameter in seen.values()), "each parameter has a help comment"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_declare_themselves_complete_last(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [source for source in code if "study.finish(" in source] == code[-1:]
    assert any(f'open_study("{path.stem}", PROFILE' in source for source in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_chapters(path):
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert texts[0].startswith("# ") and "**Question.** " in texts[0] and '\n> "' in texts[0]
    assert any("$$" in text for text in texts), "an equation"
    assert any("to try" in text.lower() and "\n2. " in text for text in texts), "exercises"
    begun = [all(line.startswith("#") for line in source.splitlines()) for source in code]
    assert any(begun[len(begun) // 2 :]), "a cell to begin an exercise in"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_plumbing(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = [line for source in code for line in source.splitlines()]
    assert sum(line.startswith(("import ", "from ")) for line in lines) <= 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_what_the_library_has(path):
    """A name that a module lost is seen at once, not when the cell that uses it is reached."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(code))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 0]
    here: dict[str, object] = {"study": Study}
    for node in imported:
        if node.module.startswith("sd4match_lib"):
            for name in node.names:
                exec(f"from {node.module} import {name.name} as found", found := {})
                here[name.asname or name.name] = found["found"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = here.get(node.value.id)
            if isinstance(owner, ModuleType) or owner is Study:
                known = hasattr(owner, node.attr) or (owner is Study and node.attr == "profile")
                assert known, f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_executed_copies_are_small_and_tell_nothing_of_their_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    assert str(PROJECT) not in text and not re.search(r"/(home|root|Users|tmp)/\w", text)
    assert '"papermill"' not in text and '"output_type": "error"' not in text
