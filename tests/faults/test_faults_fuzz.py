"""Random input for the parsers: they answer, or refuse in our own words, and raise nothing else."""

import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sd4match_lib.data.own import OwnPairs
from sd4match_lib.data.reading import parse_points
from sd4match_lib.errors import LONGEST, UserError, one_line
from sd4match_lib.evaluation.predictions import parse_frame
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.reading import read_csv, read_json, read_tensor_header, read_toml

ROUNDS = 2000 if os.environ.get("SD4MATCH_FAULTS") == "all" else 60
FUZZ = settings(
    max_examples=ROUNDS,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
BYTES = st.binary(max_size=300) | st.text(max_size=200).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


def answered(call):
    """Call; whatever is refused is refused on one line."""
    try:
        return call()
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) <= 2 * LONGEST
        return None


@FUZZ
@given(data=BYTES)
def test_files_of_any_bytes(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    for read in (read_json, read_toml, read_tensor_header, lambda path: read_csv(path, ("x",))):
        answered(lambda read=read: read(path))


@FUZZ
@given(value=VALUES)
def test_json_of_any_content_is_no_record_and_no_pair(tmp_path, value):
    path = tmp_path / "value.json"
    path.write_text(json.dumps(value))
    answered(lambda: RunRecord.read(path))
    answered(lambda: OwnPairs(path, "test")[0])


@FUZZ
@given(
    entry=st.fixed_dictionaries(
        {}, optional={name: VALUES for name in ("src", "trg", "src_points", "trg_points", "category")}
    )
)
def test_a_pair_of_any_fields(tmp_path, entry):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([entry]))
    answered(lambda: OwnPairs(path, "test")[0])


@FUZZ
@given(
    fields=st.fixed_dictionaries(
        {name: VALUES for name in ("run_id", "name", "kind", "profile", "config", "inputs", "seed")},
        optional={name: VALUES for name in ("status", "outputs", "metrics", "wall_s", "error")},
    )
)
def test_a_record_of_any_fields(tmp_path, fields):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(fields))
    record = answered(lambda: RunRecord.read(path))
    if record is not None:
        record.missing_outputs(tmp_path)
        assert set(record.outputs) == set(fields.get("outputs", {}))


@FUZZ
@given(value=VALUES | st.text("0123456789.,;- ", max_size=30))
def test_points_of_any_kind(value):
    points = answered(lambda: parse_points(value, "points"))
    assert points is None or points.shape[1] == 2


@FUZZ
@given(text=st.text(max_size=20) | st.from_regex(r"[0-9]{1,6}x[0-9]{1,6}", fullmatch=True))
def test_a_frame_of_any_text(text):
    frame = answered(lambda: parse_frame(text))
    assert frame is None or min(frame) > 0


@FUZZ
@given(
    name=st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "a", "", "b"]), max_size=6).map("/".join)
)
def test_a_name_never_leads_out_of_its_folder(tmp_path, name):
    path = answered(lambda: inside(tmp_path, name, "field"))
    assert path is None or os.path.normpath(path).startswith(f"{tmp_path}{os.sep}")


@FUZZ
@given(text=st.text(max_size=200) | st.characters(categories=["Cs", "Cc", "Cf"]).map(str))
def test_any_text_is_shown_on_one_line(text):
    shown = one_line(text)
    assert shown.isprintable() and (shown == text or not text.isprintable())
