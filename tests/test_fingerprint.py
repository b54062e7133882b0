"""What decides a result is in the request that finds it again: the library's code, and code of one's own."""

import subprocess
import sys

import pytest

from sd4match_lib.prompts.base import Scope
from sd4match_lib.prompts.text import EmptyPrompt, StringPrompt
from sd4match_lib.utils import fingerprint
from sd4match_lib.utils.fingerprint import code_hash, method_hash
from sd4match_lib.utils.paths import package_path

# Modules that a training or an evaluation loads although nothing that is found or learned depends on them:
# what `config` says stands in the request itself.
BESIDE = ("__init__.py", "errors.py", "config/", "utils/", "runs/")


def test_all_code_that_a_training_or_an_evaluation_loads_is_in_the_hash(tmp_path, monkeypatch):
    code = "import sys, sd4match_lib.training.train, sd4match_lib.evaluation.evaluate\n"
    code += "for name, module in sorted(sys.modules.items()):\n"
    code += "    if name.startswith('sd4match_lib'): print(module.__file__)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    root = package_path("")
    files = [path.removeprefix(f"{root}/") for path in loaded.splitlines()]
    deciding = [path for path in files if not path.startswith(BESIDE)]
    assert {path.split("/")[0] for path in deciding} >= {"matching", "metrics", "prompts", "training"}
    for path in (*deciding, "runs/distributed.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("before")
    (tmp_path / "report").mkdir()
    monkeypatch.setattr(fingerprint, "package_path", lambda name: tmp_path / name)
    before = method_hash()
    (tmp_path / "report" / "figures.py").write_text("a figure")
    assert method_hash() == before
    for path in (*deciding, "runs/distributed.py"):
        (tmp_path / path).write_text("after")
        assert method_hash() != before, path
        (tmp_path / path).write_text("before")
    assert method_hash() == before


OWN = """
from sd4match_lib.prompts.base import Scope
from sd4match_lib.prompts.text import StringPrompt

TEMPLATE = "a drawing of a {}"

def words(category):
    return TEMPLATE.format(category)

class Base(StringPrompt):
    scope = Scope.IMAGE
    known = {"cat", "dog", "car", "bus"}

    def identity(self):
        return {"kind": "drawing"}

class Drawing(Base):
    def strings(self, batch):
        return [words(category) for category in batch.categories if category in {"cat", "dog", "car"}]
"""


def own_hash(source):
    """Of the class `Drawing` in a notebook's source: it is in `__main__`, and there is no file."""
    names = {"__name__": "__main__"}
    exec(source, names)
    return code_hash(names["Drawing"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a drawing of", "a painting of"),  # a value that is only named
        ("TEMPLATE.format(category)", "TEMPLATE.format(category.upper())"),  # a function that is called
        ('"bus"', '"boat"'),  # an attribute of a base class
        ("for category in batch", "for category in 2 * batch"),  # the method itself
        ('"car"}]', '"sofa"}]'),
    ],
)
def test_a_class_of_ones_own_is_known_by_all_that_it_says(old, new):
    assert own_hash(OWN) == own_hash(OWN) != own_hash(OWN.replace(old, new))
    assert own_hash(OWN) == own_hash("# elsewhere\nother = 1\n" + OWN)


def test_the_hash_of_ones_own_code_is_the_same_in_every_process():
    code = OWN + "\nfrom sd4match_lib.utils.fingerprint import code_hash\nprint(code_hash(Drawing))"
    seeds = [{"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)} for seed in (1, 2)]
    told = {subprocess.check_output([sys.executable, "-c", code], env=seed, text=True) for seed in seeds}
    assert len(told) == 1


def test_the_librarys_own_prompts_are_known_by_their_identity_alone():
    assert EmptyPrompt().fingerprint() == EmptyPrompt().identity()

    class Own(StringPrompt):
        scope = Scope.DATASET

        def strings(self, batch):
            return ["mine"] * len(batch)

        def identity(self):
            return {"kind": "own"}

    assert Own().fingerprint() == {"kind": "own", "code": code_hash(Own)}
