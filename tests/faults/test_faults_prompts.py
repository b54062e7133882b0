"""Prompt files and released checkpoints: no code, no gigabytes, no numbers that are none."""

import json
import pickle
import struct
import zipfile

import pytest
import torch
from refusal import refused
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.prompts.factory import load_prompt, new_prompt
from sd4match_lib.prompts.prompt_file import HEADER_KEY
from sd4match_lib.prompts.released import read_released
from sd4match_lib.prompts.single import SinglePrompt

SINGLE = {"token_width": 8, "length": 5, "space": "tokens", "init": "random"}
CPM = {"token_width": 4, "vision_width": 3, "patches": 4, "length_global": 2, "length_condition": 2}
THETA = torch.arange(40.0).reshape(5, 8)
INFINITE, NAN = float("inf"), float("nan")


def prompt_file(tensors=None, *, metadata=None, **header):
    header = {"format": 1, "kind": "single", "config": SINGLE, "about": {}} | header
    tensors = {"theta": THETA} if tensors is None else tensors
    return save(tensors, metadata={HEADER_KEY: json.dumps(header)} if metadata is None else metadata)


def raw_file(entries, data=b"", length=None):
    """A safetensors file with a header of one's own."""
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


ENTRY = {"dtype": "F32", "shape": [5, 8], "data_offsets": [0, 160]}
ABOUT = {HEADER_KEY: json.dumps({"format": 1, "kind": "single", "config": SINGLE, "about": {}})}

FILES = {
    "empty": b"",
    "seven bytes": b"1234567",
    "text": b"this is no prompt",
    "pickle": pickle.dumps({"theta": [1.0]}),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "cut off in the header": prompt_file()[:40],
    "cut off in the data": prompt_file()[:-8],
    "bytes behind": prompt_file() + b"PK\x03\x04",
    "zip in front": b"PK\x03\x04" + prompt_file(),
    "a header of 4 GB": raw_file({}, length=2**32),
    "a header of 2**63": raw_file({}, length=2**63),
    "a header of 0": raw_file({}, length=0),
    "a header that is no JSON": raw_file(b"{theta: 1}"),
    "a header that is a list": raw_file([]),
    "a header nested deep": raw_file(b"[" * 100_000),
    "an entry that is a number": raw_file({"theta": 3}),
    "no shape": raw_file({"theta": {"dtype": "F32", "data_offsets": [0, 0]}}),
    "a negative side": raw_file({"theta": ENTRY | {"shape": [-5, 8]}}, bytes(160)),
    "a side that is a text": raw_file({"theta": ENTRY | {"shape": ["5", 8]}}, bytes(160)),
    "more than it holds": raw_file({"theta": ENTRY | {"shape": [5, 10**9]}}, bytes(160)),
    "5 GB in 160 bytes": raw_file({"theta": ENTRY | {"shape": [1_250_000_000, 1]}}, bytes(160)),
    "an unknown type": raw_file({"theta": ENTRY | {"dtype": "F7"}}, bytes(160)),
    "overlapping": raw_file({"a": ENTRY, "b": ENTRY, "__metadata__": ABOUT}, bytes(160)),
    "a gap": raw_file({"theta": ENTRY | {"data_offsets": [8, 168]}}, bytes(168)),
    "metadata of numbers": raw_file({"__metadata__": {HEADER_KEY: 3}, "theta": ENTRY}, bytes(160)),
    "no header of ours": save({"theta": THETA}),
    "a header of ours that is no JSON": prompt_file(metadata={HEADER_KEY: "{kind"}),
    "a header of ours nested deep": prompt_file(metadata={HEADER_KEY: "[" * 100_000}),
    "a header of ours that is a list": prompt_file(metadata={HEADER_KEY: "[]"}),
    "another format": prompt_file(format=2),
    "format true": prompt_file(format="1"),
    "another kind": prompt_file(kind="captioner"),
    "a kind that is a list": prompt_file(kind=["single"]),
    "no kind": prompt_file(kind=None),
    "a configuration that is a list": prompt_file(config=[]),
    "about that is a list": prompt_file(about=[]),
    "no configuration": prompt_file(config={}),
    "a surplus option": prompt_file(config=SINGLE | {"code": "import os"}),
    "another length": prompt_file(config=SINGLE | {"length": 6}),
    "a length of a billion": prompt_file(config=SINGLE | {"length": 10**9}),
    "a negative length": prompt_file(config=SINGLE | {"length": -5}),
    "a length that is a text": prompt_file(config=SINGLE | {"length": "5"}),
    "another width": prompt_file(config=SINGLE | {"token_width": 9}),
    "an unknown space": prompt_file(config=SINGLE | {"space": "outer"}),
    "no rows": prompt_file({"theta": torch.zeros(0, 8)}, config=SINGLE | {"length": 0}),
    "no columns": prompt_file({"theta": torch.zeros(5, 0)}, config=SINGLE | {"token_width": 0}),
    "another tensor": prompt_file({"phi": THETA}),
    "a surplus tensor": prompt_file({"theta": THETA, "phi": THETA + 1}),
    "no tensor": prompt_file({}),
    "nan": prompt_file({"theta": THETA / 0 * 0}),
    "infinite": prompt_file({"theta": THETA + INFINITE}),
    "whole numbers": prompt_file({"theta": THETA.long()}),
    "true and false": prompt_file({"theta": THETA > 3}),
    "complex": prompt_file({"theta": THETA.to(torch.complex64)}),
    "a class prompt without categories": prompt_file(kind="class", config=SINGLE),
    "cpm, an unknown word": prompt_file({}, kind="cpm", config=CPM | {"conditioning": "both"}),
    "a class prompt of other names": prompt_file(
        {"theta": torch.zeros(1, 5, 8)}, kind="class", config=SINGLE | {"categories": ["../x"]}
    ),
    "a class prompt of a category twice": prompt_file(
        {"theta": torch.zeros(2, 5, 8)}, kind="class", config=SINGLE | {"categories": ["cat", "cat"]}
    ),
    "a class prompt of one word's letters": prompt_file(
        {"theta": torch.zeros(3, 5, 8)}, kind="class", config=SINGLE | {"categories": "dog"}
    ),
    **{
        f"a mixture of {layers!r}": prompt_file(
            {"theta": THETA, "mixture.logits": torch.zeros(2)}, config=SINGLE | {"mixture": layers}
        )
        for layers in ("ab", [3, 4], ["a", "a"])
    },
    "cpm, a billion patches": prompt_file({}, kind="cpm", config=CPM | {"patches": 10**9}),
    "cpm, no tensors": prompt_file({}, kind="cpm", config=CPM),
}


SAID = {
    "cut off in the data": "not a complete safetensors file",
    "no header of ours": "not a prompt of this library",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_prompt_is_named(tmp_path, name):
    (tmp_path / "prompt.safetensors").write_bytes(FILES[name])
    said = refused(lambda: load_prompt(tmp_path / "prompt.safetensors"), "prompt.safetensors")
    assert SAID.get(name, "") in said


def test_the_file_that_is_damaged_above_is_whole(tmp_path):
    (tmp_path / "prompt.safetensors").write_bytes(prompt_file())
    assert torch.equal(load_prompt(tmp_path / "prompt.safetensors").theta, THETA)


@pytest.mark.parametrize("place", ["gone.safetensors", "folder.safetensors", "x" * 300 + ".safetensors"])
def test_a_prompt_that_is_no_file_is_named(tmp_path, place):
    (tmp_path / "folder.safetensors").mkdir()
    refused(lambda: load_prompt(tmp_path / place))


CAPTIONER = {
    "whole": lambda tensors: None,
    "a layer more": lambda tensors: tensors.update({"projection.1.weight": torch.ones(4, 4)}),
    "a layer less": lambda tensors: tensors.pop("projection.bias"),
    "another length": lambda tensors: tensors.update(positions=torch.ones(6, 4)),
    "another width": lambda tensors: tensors.update({"projection.weight": torch.ones(4, 9)}),
    "nan": lambda tensors: tensors["positions"].fill_(NAN),
    "complex": lambda tensors: tensors.update(positions=tensors["positions"].to(torch.complex64)),
}


@pytest.mark.parametrize("name", CAPTIONER)
def test_a_captioner_with_other_layers_is_named(tmp_path, name):
    path = tmp_path / "captioner.safetensors"
    ImplicitCaptioner(3, 4, length=5).save(path, {})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    CAPTIONER[name](tensors)
    save_file(tensors, path, metadata=metadata)
    if name == "whole":
        assert ImplicitCaptioner.load(path).positions.shape == (5, 4)
    else:
        refused(lambda: ImplicitCaptioner.load(path), "captioner.safetensors")


class Code:
    def __reduce__(self):
        return print, ("code of the file was run",)


CAPTION = torch.rand(1, 77, 8)
RELEASED = {
    "a function": {"dataset": Code()},
    "a module": {"dataset": torch.nn.Linear(2, 2)},
    "a tensor alone": CAPTION,
    "a number": 3,
    "nothing": {},
    "something else": {"weight": torch.zeros(3)},
    "texts": {"dataset": "hello"},
    "a scalar": {"dataset": torch.tensor(1.0)},
    "one axis": {"dataset": torch.rand(8)},
    "two axes": {"dataset": torch.rand(77, 8)},
    "two captions in one": {"dataset": torch.rand(2, 77, 8)},
    "too few rows": {"dataset": torch.rand(1, 2, 8)},
    "no width": {"dataset": torch.rand(1, 77, 0)[..., :0]},
    "captions that differ": {"cat": CAPTION, "dog": torch.rand(1, 70, 8)},
    "sparse": {"dataset": CAPTION.to_sparse()},
    "quantised": {"dataset": torch.quantize_per_tensor(CAPTION, 0.1, 0, torch.qint8)},
    "complex": {"dataset": CAPTION.to(torch.complex64)},
    "whole numbers": {"dataset": CAPTION.long()},
    "true and false": {"dataset": CAPTION > 0.5},
    "nan": {"dataset": CAPTION * NAN},
    "5 GB for four bytes": {"dataset": torch.zeros(1, 1, 1).expand(1, 77, 16_000_000)},
    "nested": {"dataset": {"inner": CAPTION}},
    "cpm, scalars": {name: torch.tensor(1.0) for name in ("alpha_cond", "positional_embedding")},
    "cpm, incomplete": {"alpha_cond": torch.rand(2, 4)},
}
WHOLE = {
    "alpha_cond": torch.rand(1, 2, 4),
    "positional_embedding": torch.rand(1, 2, 4),
    "global_embeds": torch.rand(1, 2, 4),
    "linear_C.weight": torch.rand(4, 6),
    "linear_C.bias": torch.rand(4),
    "linear_N.weight": torch.rand(5, 5),
    "linear_N.bias": torch.rand(5),
}
for name, tensor in {
    "alpha_cond": torch.tensor(1.0),
    "positional_embedding": torch.rand(3, 4),
    "linear_C.weight": torch.rand(6),
    "linear_C.bias": torch.rand(4, 1),
    "linear_N.weight": torch.rand(5, 4),
    "linear_N.bias": torch.rand(()),
    "global_embeds": torch.rand(4),
    "linear_C.weight ": torch.rand(4, 6),
}.items():
    RELEASED[f"cpm, another {name}"] = {**WHOLE, name: tensor}
RELEASED |= {
    "beyond float32": {"dataset": CAPTION.double() * 1e300},
    "on no device": {"dataset": torch.empty(1, 77, 8, device="meta")},
    "compressed rows": {"cat": torch.rand(77, 8).to_sparse_csr()},
    "a list": [CAPTION],
    "a list inside": {"dataset": [[CAPTION]]},
    "no rows": {"dataset": torch.rand(1, 0, 8)},
    "cpm, beyond float32": {**WHOLE, "alpha_cond": WHOLE["alpha_cond"].double() * 1e300},
    "cpm, an odd number of features": {**WHOLE, "linear_C.weight": torch.rand(4, 5)},
    "cpm, another width": {**WHOLE, "linear_C.weight": torch.rand(3, 6)},
    "cpm, no rows": {**WHOLE, "alpha_cond": torch.rand(1, 0, 4)},
    "cpm, lengths that differ": {**WHOLE, "positional_embedding": torch.rand(1, 3, 4)},
    "cpm, a bias alone": {name: tensor for name, tensor in WHOLE.items() if name != "linear_N.weight"},
}
RELEASED |= {
    "a nested tensor": {"dataset": torch.nested.nested_tensor([torch.rand(77, 8)])},
    "a name twice": {"dataset": CAPTION, "module.dataset": CAPTION},
    "a name that is a number": {1: CAPTION, "1": CAPTION},
    "a name that is no Unicode": {"\ud800": CAPTION, "cat": CAPTION},
    "a name that is empty": {"": CAPTION, "cat": CAPTION},
    "a name that leads elsewhere": {"../x": CAPTION},
    "a name of two lines": {"two\nlines": CAPTION},
    "a name of 5,000 letters": {"x" * 5000: CAPTION},
    "captions of 88 MB": {name: torch.zeros(1, 1, 1).expand(1, 77, 150_000) for name in ("cat", "dog")},
    "cpm, no patches": {**WHOLE, "linear_N.weight": torch.rand(0, 0), "linear_N.bias": torch.rand(0)},
    "cpm, no features": {**WHOLE, "linear_C.weight": torch.rand(4, 0)},
}
RELEASED["cpm, 40 GB of patches"] = {**WHOLE, "linear_N.weight": torch.rand(100_000, 1)}
RELEASED["cpm, a part less and one more"] = {
    **{name: tensor for name, tensor in WHOLE.items() if name != "linear_C.bias"},
    "other": torch.zeros(1),
}
RELEASED["cpm, another width"] = {**WHOLE, "alpha_cond": torch.zeros(1, 2, 7)}
RELEASED["cpm, a text"] = {**WHOLE, "linear_C.bias": "bias"}

RAW = {
    "empty": b"",
    "text": b"no checkpoint",
    "a pickle of code": pickle.dumps(Code()),
    "cut off": pickle.dumps({"a": list(range(1000))})[:-20],
    "binary": bytes(range(256)),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
}


SAID_OF_RELEASED = {
    "a function": "released.pt is damaged or holds more than tensors",
    "something else": "neither a released caption",
    "cpm, a part less and one more": "lacks linear_C.bias and has the unknown other",
    "cpm, another width": "do not fit together",
    "a nested tensor": "'dataset' is not made of plain floating-point numbers",
    "a name twice": "holds both 'dataset' and 'module.dataset'",
    "a name that is a number": "the name 1 of an entry is not a text",
    "a name that is no Unicode": "'\\ud800' is not a category",
    "a name that is empty": "'' is not a category",
    "a name that leads elsewhere": "'../x' is not a category",
    "a name of two lines": "is not a category",
    "a name of 5,000 letters": "an entry names no category",
    "captions of 88 MB": "holds 88 MB of numbers",
    "cpm, no patches": "'linear_N.weight' has not the shape",
    "cpm, no features": "'linear_C.weight' has not the shape",
}
SAID_OF_RAW = {"a pickle of code": "more than tensors", "text": "damaged"}


@pytest.mark.parametrize("name", RELEASED)
def test_a_checkpoint_that_is_not_the_released_one_is_named(tmp_path, name, capsys):
    torch.save(RELEASED[name], tmp_path / "released.pt")
    refused(lambda: read_released(tmp_path / "released.pt"), "released.pt", SAID_OF_RELEASED.get(name, ""))
    assert "code of the file was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", RAW)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, name, capsys):
    (tmp_path / "released.pt").write_bytes(RAW[name])
    refused(lambda: read_released(tmp_path / "released.pt"), "released.pt", SAID_OF_RAW.get(name, ""))
    assert "code of the file was run" not in capsys.readouterr().out


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "released.pt"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x/data.pkl", "w") as stream,
    ):
        for _ in range(300):
            stream.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    refused(lambda: read_released(path), "unpacks to 300 MB")


def test_the_checkpoints_that_are_damaged_above_are_whole(tmp_path):
    torch.save({"dataset": CAPTION}, tmp_path / "caption.pt")
    assert isinstance(read_released(tmp_path / "caption.pt"), SinglePrompt)
    refused(lambda: read_released(tmp_path / "caption.pt", length=76), "length 76 does not fit 77 rows")
    refused(lambda: read_released(tmp_path / "gone.pt"), "gone.pt does not exist")
    torch.save(WHOLE, tmp_path / "ckpt.pt")
    assert torch.equal(read_released(tmp_path / "ckpt.pt").g_n.weight, WHOLE["linear_N.weight"])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("single", {"length": value}) for value in (-5, 0, "abc", 1e9, 10**9, 1.5, True, None, [5])),
        ("single", {"init": 5}),
        ("single", {"space": 3}),
        ("single", {"space": "outer"}),
        ("single", {"surprise": 1}),
        ("single", {"": 1}),
        ("class", {"length": 10**9}),
        ("cpm", {"length_global": -1}),
        ("cpm", {"length_condition": 10**12}),
        ("cpm", {"use_global": 1}),
        ("cpm", {"mix_patches": "yes"}),
        ("cpm", {"conditioning": 3}),
        ("cpm", {"condition": "none"}),
        ("double", {}),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_allocated(kind, options):
    from sd4match_lib.config.profile import load_profile

    refused(lambda: new_prompt(kind, load_profile("mini"), ("cat",), options))
