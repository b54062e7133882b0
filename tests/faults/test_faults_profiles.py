"""Profiles with mistakes, huge sizes and hostile names: one sentence that names the file and the key."""

import pytest
from refusal import refused

from sd4match_lib.config.profile import load_profile

SAID = {
    "[features]\ntimestpe = 1": "unknown key 'features.timestpe'",
    "[features]\ntimestep = 1000": "'features.timestep' must be at most 999, not 1000",
    '[features]\ntimestep = "50"': "'features.timestep' must be a whole number, not '50'",
    "[features]\nensemble = true": "'features.ensemble' must be a whole number, not True",
    "[model]\nimage_hw = [128]": "'model.image_hw' must have 2 values, not 1",
    '[model]\ndtype = "float8"': "'model.dtype' must be one of 'float32', 'bfloat16', 'float16'",
    "[evaluation]\nalphas = [0.1, 10]": "'evaluation.alphas' must be at most 1.0, not 10",
    "[evaluation]\ntemperature = 0": "'evaluation.temperature' must be above 0.0",
    '[datasets.spair]\nkind = "spairs"': "'datasets.spair.kind' must be one of 'spair'",
    '[datasets.mine]\nkind = "own"': "key 'datasets.mine.root' is missing",
    "vision = 3": "'vision' must be a table, not 3",
    "seed = ": "is not valid TOML",
}

LINES = [
    *SAID,
    'name = ""',
    "name = 3",
    'name = "../x"',
    'name = "a/b"',
    'name = "![x](../secret.png)"',
    'name = "<script>"',
    'name = "two\\nlines"',
    'name = ".hidden"',
    'name = "-option"',
    f'name = "{"x" * 65}"',
    'name = "\\u202e"',
    "seed = -1",
    "seed = 1.5",
    'seed = "0"',
    "seed = true",
    f"seed = {2**32}",
    f"seed = {'9' * 400}",
    f"seed = {'9' * 5000}",
    f"seed = 0x{'f' * 6000}",
    "seed = nan",
    "seed = 1979-05-27",
    "results_dir = 3",
    'results_dir = "nul\\u0000"',
    "cache_dir = []",
    'prepare = "everything"',
    "captioner = 7",
    "surprise = 1",
    "model = 3",
    "model = []",
    "datasets = 1",
    "extends = 3",
    'extends = "gone"',
    'extends = "tiny.toml"',
    "[model]\nimage_hw = [20000, 20000]",
    "[model]\nimage_hw = [0, 8]",
    "[model]\nimage_hw = [-8, 8]",
    "[model]\nimage_hw = [100, 100]",
    "[model]\nimage_hw = [8]",
    "[model]\nimage_hw = [8, 8, 8]",
    '[model]\nimage_hw = ["8", "8"]',
    "[model]\nimage_hw = 128",
    "[model]\nimage_hw = [128.0, 128.0]",
    "[model]\nsources = []",
    "[model]\nsources = [3]",
    '[model]\nsources = "a"',
    '[model]\ndtype = "int8"',
    "[model]\ndtype = 16",
    "[model]\nrevision = 3",
    "[model]\nsize = 3",
    "[vision]\nresize = 0",
    "[vision]\ncrop = 100000",
    "[vision]\ndense_hw = [20000, 20000]",
    "[vision]\ndense_hw = []",
    "[features]\nensemble = 0",
    "[features]\nensemble = 1000000000",
    "[features]\ntimestep = -1",
    "[features]\ntrain_timestep = 1e3",
    '[features]\nensemble = "many"',
    "[evaluation]\nalphas = []",
    f"[evaluation]\nalphas = {[0.1] * 100_000}",
    "[evaluation]\nalphas = [inf]",
    "[evaluation]\nalphas = [nan]",
    "[evaluation]\nalphas = [0.0]",
    "[evaluation]\nalphas = [1.5]",
    "[evaluation]\nalphas = [-0.1]",
    '[evaluation]\nalphas = ["0.1"]',
    "[evaluation]\nalphas = 0.1",
    "[evaluation]\nbatch_size = 0",
    "[evaluation]\nbatch_size = 1000000000",
    "[evaluation]\ntemperature = inf",
    "[evaluation]\nsigma = nan",
    '[evaluation]\nmatcher = "best"',
    "[evaluation]\nmatcher = 1",
    "[training]\nsteps = 0",
    "[training]\nsteps = 1000000000000",
    "[training]\nlearning_rate = -1.0",
    "[training]\nlearning_rate = inf",
    "[training]\nkernel_size = 4",
    "[training]\nkernel_size = 100000001",
    "[training]\naccumulate = 0",
    "[training]\nvalidate_every = 0",
    "[training]\nvalidation_pairs = 0",
    '[training]\nprecision = "float8"',
    "[training]\ncheckpoint_activations = 1",
    "[baselines.sd_dino]\npca_dim = 0",
    "[baselines.sd_dino]\nsd_weight = 1.5",
    "[baselines.sd_dino]\ngrid_hw = [0, 0]",
    "[baselines.sd_dino]\ngrid_hw = [100000, 100000]",
    "[baselines.dift]\nensemble = -1",
    "[baselines.best]\nx = 1",
    '[datasets."../a/b"]\nkind = "spair"\nroot = "data"',
    '[datasets."a b"]\nkind = "spair"\nroot = "data"',
    '[datasets."![x](y)"]\nkind = "spair"\nroot = "data"',
    '[datasets.""]\nkind = "spair"\nroot = "data"',
    '[datasets.x]\nkind = "tss"\nroot = "data"',
    '[datasets.x]\nkind = "spair"',
    "[datasets.x]\nroot = 3\nkind = 'own'",
    '[datasets.x]\nkind = "spair"\nroot = "d"\nmax_pairs = {test = 0}',
    '[datasets.x]\nkind = "spair"\nroot = "d"\nmax_pairs = {test = -5}',
    '[datasets.x]\nkind = "spair"\nroot = "d"\nmax_pairs = {test = "all"}',
    "[notebooks]\ntimeout_s = 0",
    "[notebooks]\ntimeout_s = 1000000000000",
    '[notebooks]\noffline = "yes"',
    "[notebooks]\nparameters = 3",
    "[notebooks.parameters]\nx = 3",
    'extends = ""',
    'extends = "mini\\n"',
    "decided_by = 3",
    'world = ["x"]',
    'name = "\u00e9"',
    'results_dir = "package:../x"',
    "prepare = true",
    "a.b.c = 1",
    '"" = 1',
    '[[model]]\nsources = ["a"]',
    "[model]\nimage_hw = 2026-01-01",
    '[model]\nbackbone = ["sdxl"]',
    "[model]\nfast = 1",
    "[features]\nlayer = 3",
    "[evaluation]\nalphas = [1e-400]",
    "[evaluation]\nalphas = [[0.1]]",
    "[evaluation]\nsigma = -0.0",
    '[training]\nmixture = "up_blocks.1"',
    "[training]\nmixture = [1]",
    "[training]\ndistance_weight = inf",
    '[training]\nboth_directions = "yes"',
    "[training]\nvalidation_pairs = 1.0",
    '[baselines]\ndift = "x"',
    '[datasets]\nspair = "data"',
    '[datasets.x]\nkind = ["spair"]\nroot = "d"',
    '[datasets.x]\nkind = "spair"\nroot = "d"\noptional = 1',
    '[datasets.x]\nkind = "spair"\nroot = "d"\npublished_counts = [1]',
]

FILES = {
    "empty": b"",
    "json": b'{"name": "x"}',
    "binary": bytes(range(256)),
    "utf-16": "name = 1".encode("utf-16"),
    "conflict marks": b"<<<<<<< ours\nseed = 1\n",
    "nested deep": b"name = " + b"[" * 100_000,
    "tables nested deep": b"[" + b"a." * 5000 + b"a]\nb = 1",
    "twice": b"seed = 1\nseed = 2\n",
    "cut off": b'name = "tin',
    "too large": b"# " + b"x" * 2**21,
    "nul": b"name = 'a\0b'",
}


@pytest.mark.parametrize("lines", LINES, ids=lambda lines: lines.replace("\n", " ")[:40])
def test_a_mistake_is_named_with_its_file(tmp_path, lines):
    path = tmp_path / "tiny.toml"
    extends = "" if lines.startswith("extends") else 'extends = "mini"\n'
    path.write_text(f"{extends}{lines}\n", encoding="utf-8")
    said = refused(lambda: load_profile(path).results_path, SAID.get(lines, ""))
    assert lines not in SAID or "tiny.toml" in said


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_profile_is_named(tmp_path, content):
    (tmp_path / "tiny.toml").write_bytes(content)
    refused(lambda: load_profile(tmp_path / "tiny.toml"), "tiny.toml")


@pytest.mark.parametrize(
    "name",
    ["gone.toml", "folder.toml", "x" * 300 + ".toml", "nul\0.toml", "~no-such-user/x.toml", "mini.txt", ""],
)
def test_a_profile_that_is_not_there_is_named(tmp_path, monkeypatch, name):
    (tmp_path / "folder.toml").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(lambda: load_profile(name))


def test_profiles_that_extend_each_other_are_refused_however_they_are_spelt(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.toml").write_text('extends = "sub/../b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "./sub/../a.toml"\n')
    refused(lambda: load_profile(tmp_path / "a.toml"), "leads back")


def test_a_chain_of_profiles_without_end_is_refused(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n')
    refused(lambda: load_profile(tmp_path / "0.toml"), ".toml: more than 20 profiles extend each other")
