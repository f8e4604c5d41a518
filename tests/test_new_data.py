"""New data of a finished run: which source reads them, with which options."""

import duckdb
import numpy as np
import openpyxl
import pandas as pd
import pytest

import kerastrain
from kerastrain.cli import main
from kerastrain.cli.settings import of_new_data
from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError
from kerastrain.events import recording
from kerastrain.source import open_source, source_of_new_data

TABLE = pd.DataFrame({"a": np.arange(400) / 10, "b": ["x", "y"] * 200})
TABLE["y"] = TABLE["a"] * 2 + (TABLE["b"] == "x")
QUICK = {"model": "linear", "fit": {"epochs": 1}, "split": {"folds": 1}, "exports": []}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The same rows as a file of odd CSV, a data base and a workbook."""
    folder = tmp_path_factory.mktemp("data")
    TABLE.to_csv(folder / "odd.csv", index=False, sep="|")
    TABLE.to_csv(folder / "plain.csv", index=False)
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.register("rows", TABLE)
        connection.execute("CREATE TABLE t AS SELECT * FROM rows")
        connection.execute("CREATE TABLE new AS SELECT * FROM rows LIMIT 5")
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.create_sheet("May").append(["a", "b"])
    book["May"].append([1.5, "x"])
    book.save(folder / "new.xlsx")
    return folder


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """Trained on the choice of a data base."""
    return kerastrain.train(
        str(place / "shop.duckdb"),
        "y",
        source={"name": "sql", "query": "SELECT * FROM t"},
        where="a < 30",
        out=str(tmp_path_factory.mktemp("run") / "sql"),
        progress=False,
        **QUICK,
    )


@pytest.mark.parametrize(
    ("trained", "data", "given", "expected"),
    [
        ({}, "new.csv", {}, {"name": "csv"}),
        ({"delimiter": "|"}, "new.csv", {}, {"name": "csv", "delimiter": "|"}),
        ({"delimiter": "|"}, "new.csv", {"delimiter": ";"}, {"delimiter": ";"}),
        ({"delimiter": "|"}, "new.parquet", {}, {"name": "parquet"}),
        ({"name": "csv", "delimiter": "|"}, TABLE, {}, {"name": "frame"}),
        ({"name": "sql", "query": "SELECT 1"}, "new.csv", {}, {"name": "csv"}),
        ({"name": "sql", "query": "SELECT 1"}, "a.duckdb", {}, {"name": "sql"}),
        ({"sheet": "April"}, "new.xlsx", {}, {"name": "excel"}),
        ({"sheet": "April"}, "new.xlsx", {"sheet": "May"}, {"sheet": "May"}),
        ({"name": "csv", "delimiter": "|"}, "new.foo", {}, {"delimiter": "|"}),
        ({}, "new.foo", {"name": "csv"}, {"name": "csv"}),
    ],
)
def test_options_that_say_how_files_are_written_stay_the_others_go(
    tmp_path, trained, data, given, expected
):
    if isinstance(data, str):
        (tmp_path / data).write_text("a\n1\n")
        data = [str(tmp_path / data)]
    config = source_of_new_data(SourceConfig(**trained), data, given)
    assert {"name": config.name} | config.options == {"name": config.name} | expected


def test_a_run_on_a_data_base_predicts_files_and_tables(run, place):
    whole = run.predict(TABLE)
    assert len(whole) == 400  # neither the query nor the condition is carried over
    for data in (str(place / "plain.csv"), [str(place / "plain.csv")]):
        np.testing.assert_allclose(run.predict(data), whole, rtol=1e-6)
    options = {"query": "SELECT * FROM new"}
    new = run.predict(str(place / "shop.duckdb"), source=options)
    np.testing.assert_allclose(new, whole[:5], rtol=1e-6)


def test_a_condition_chooses_the_new_rows(run, place, tmp_path):
    expected = run.predict(TABLE[TABLE["a"] >= 39.5])
    data, where = str(place / "plain.csv"), "a >= 39.5"
    np.testing.assert_allclose(run.predict(data, where=where), expected, rtol=1e-6)
    assert run.predict_file(data, tmp_path / "p.csv", where=where) == 5
    assert run.evaluate(data, where=where)["rmse"]["value"] >= 0
    assert len(run.predict(open_source(data), where=where)) == 5
    with pytest.raises(SourceError, match="The condition 'aa > 1': "):
        run.predict(data, where="aa > 1")


def test_an_option_that_the_new_source_lacks_is_refused(run, place):
    with pytest.raises(ConfigError, match="source.csv has no option 'sheet'"):
        run.predict(str(place / "plain.csv"), source={"sheet": "May"})


def test_the_command_line_reads_new_data_as_it_is_told(run, place, tmp_path, capsys):
    folder, out = str(run.folder.path), str(tmp_path / "p.csv")
    shop, odd = str(place / "shop.duckdb"), str(place / "odd.csv")
    for count, *more in (
        ["5", shop, "--query", "SELECT * FROM new"],
        ["3", shop, "--query", "SELECT * FROM t", "--where", "a < 0.25"],
        ["400", odd, "--set", "source.delimiter='|'"],
        ["400", odd, "--set", "source=csv", "--set", "source.quote=^"],
        ["1", str(place / "new.xlsx"), "--set", "source.sheet=May"],
    ):
        assert main(["predict", folder, *more, "-o", out, "--force"]) == 0, more
        assert capsys.readouterr().out.startswith(f"{count} predictions in ")
    arguments = ["evaluate", folder, odd, "--where", "b = 'x'", "--json"]
    assert main([*arguments, "--set", "source.delimiter='|'"]) == 0
    assert '"rmse"' in capsys.readouterr().out


def test_profile_reads_what_it_is_told(place, capsys):
    shop = str(place / "shop.duckdb")
    query = ["--query", "SELECT * FROM t", "--where", "a >= 10", "--columns", "b,y"]
    assert main(["profile", shop, *query, "--target", "y"]) == 0
    assert "300 rows, 2 columns" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None, []), {}),
        (("a > 1", None, None, []), {"where": "a > 1"}),
        ((None, "SELECT 1", None, []), {"source": {"query": "SELECT 1"}}),
        (
            (None, None, "test", ["source=tfds"]),
            {"source": {"name": "tfds", "split": "test"}},
        ),
        ((None, None, None, ["source.sheet=May"]), {"source": {"sheet": "May"}}),
    ],
)
def test_only_what_is_given_is_passed_on(given, expected):
    assert of_new_data(*given) == expected


def test_a_trained_run_has_no_other_settings():
    with pytest.raises(ConfigError, match="--set fit: the run is trained. Only how"):
        of_new_data(None, None, None, ["fit.epochs=3"])


def test_a_note_tells_the_sheet_that_is_read(run, place):
    with recording() as recorder:
        run.predict(str(place / "new.xlsx"), source={"sheet": "May"})
        assert "first_sheet" not in {event.code for event in recorder.events}
