import pytest

from sd4match_lib.errors import UserError
from sd4match_lib.report.published import load_published, lookup


def test_printed_numbers_are_fractions_and_typed():
    published = load_published()

    assert published["value"].notna().sum() == 313
    assert published["value"].dtype == "float64"
    assert published["alpha"].dtype == "float64"
    assert published["value"].dropna().between(0.05, 1).all()
    assert set(published[published["value"].isna()]["table"]) == {"table1", "table3", "table4"}
    assert published["source"].str.startswith("arXiv 2310.17569v2, ").all()
    assert set(published["supervision"]) == {"Z", "I", "K"}


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table2", "DIFT", "all", 0.529),
        ("table2", "SD4Match-Single", "all", 0.726),
        ("table2", "SD4Match-CPM", "tvmonitor", 0.866),
        ("figure3a", "6 without g_n", "all", 0.740),
        ("supplement7", "SD2-1 at 384x384", "all", 0.346),
    ],
)
def test_lookup_finds_what_the_paper_prints(table: str, row: str, column: str, value: float):
    assert lookup(table, row, column, 0.1) == value


def test_what_the_paper_does_not_print_is_none():
    assert lookup("table2", "DIFT", "all", 0.05) is None
    assert lookup("table2", "DIFT", "guitar", 0.1) is None


def test_a_blank_value_stays_none(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("SD4MATCH_DATA", str(tmp_path))
    cpm = "SD4Match-CPM, tuned on PF-Pascal"
    assert lookup("table3", cpm, "all", 0.1, dataset="pf_willow") is None
    # Until somebody who has the paper fills it in; what the package knows stays.
    header = "table,row,supervision,dataset,column,alpha,average,value,source\n"
    line = f'table3,"{cpm}",K,pf_willow,all,0.10,image,12.5,my copy\n'
    blank = "table2,DIFT,Z,spair,all,0.10,image,,mine\n"
    (tmp_path / "published.csv").write_text(header + line + blank, encoding="utf-8")
    assert lookup("table3", cpm, "all", 0.1, dataset="pf_willow") == 0.125
    assert lookup("table3", cpm, "all", 0.1, dataset="pf_pascal") is None
    assert lookup("table2", "DIFT", "all", 0.1) == 0.529
    (tmp_path / "published.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"published\.csv"):
        load_published()


def test_unknown_table_or_row_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match=r"no table 'table7'.*table2, figure3a"):
        lookup("table7", "DIFT", "all", 0.1)
    with pytest.raises(UserError, match=r"no row 'SD9Match'.*SD4Match-CPM"):
        lookup("table2", "SD9Match", "all", 0.1)
