import pytest

from sd4match_lib.errors import UserError
from sd4match_lib.report.published import load_published, lookup


def test_printed_numbers_are_fractions_and_typed():
    published = load_published()

    assert len(published) == 313
    assert published["value"].dtype == "float64"
    assert published["alpha"].dtype == "float64"
    assert published["value"].dropna().between(0.05, 1).all()
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
    table = tmp_path / "tables.csv"
    table.write_text(
        "table,row,supervision,dataset,column,alpha,average,value,source\n"
        "table9,Method,K,spair,all,0.10,image,,unread\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("sd4match_lib.report.published.package_path", lambda relative: table)

    assert lookup("table9", "Method", "all", 0.1) is None


def test_unknown_table_or_row_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match=r"no table 'table7'.*table2, figure3a"):
        lookup("table7", "DIFT", "all", 0.1)
    with pytest.raises(UserError, match=r"no row 'SD9Match'.*SD4Match-CPM"):
        lookup("table2", "SD9Match", "all", 0.1)
