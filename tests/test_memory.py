"""The budget of a run: how it is divided, and when it is too little."""

import re
from pathlib import Path

import pytest

from kerastrain.errors import DataError
from kerastrain.memory import Budget, connect, limited, size_text
from kerastrain.schema import Column, ColumnStats, Schema
from kerastrain.texts import text_bytes

GB = 1_000_000_000


def limit_of(connection):
    [[text]] = connection.execute("SELECT current_setting('memory_limit')").fetchall()
    return text


def test_what_is_left_beside_the_libraries_is_divided():
    budget = Budget(3 * GB, 1 * GB)
    assert budget.free == 2 * GB
    assert budget.duckdb + budget.arrays < budget.free
    budget.check()


def test_connections_inside_keep_to_the_budget(tmp_path):
    before = limit_of(connect())
    with limited(Budget(3 * GB, 1 * GB, tmp_path)) as budget:
        with connect() as connection:
            text = limit_of(connection)
            [[folder]] = connection.execute(
                "SELECT current_setting('temp_directory')"
            ).fetchall()
        number, unit = text.split()
        assert float(number) * {"MiB": 2**20, "GiB": 2**30}[unit] == pytest.approx(
            budget.duckdb, rel=0.01
        )
        assert Path(folder) == tmp_path / "spill"
    assert limit_of(connect()) == before


def test_what_does_not_fit_on_disk_is_told_with_its_column():
    message = (
        "--memory 2 GB is too little: this run needs about 3.4 GB, of which the "
        "libraries take 1 GB. Different texts take 2 GB. Allow more, or leave --memory "
        "out."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        Budget(2 * GB, GB).check(2 * GB, "Different texts take 2 GB.")


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(999_999, "1 MB"), (2.5e9, "2.5 GB"), (1e9, "1 GB"), (3.21e11, "321 GB")],
)
def test_sizes_are_told_in_two_digits(num_bytes, text):
    assert size_text(num_bytes) == text


def column(name, type, num_distinct, dtype="string", role="feature"):
    stats = ColumnStats(
        storage="string", num_rows=10**7, num_distinct=num_distinct, mean_chars=20
    )
    return Column(name=name, type=type, dtype=dtype, role=role, stats=stats)


def test_texts_that_are_kept_count_and_those_that_are_parsed_do_not():
    columns = [
        column("user", "categorical", 1_000_000),
        column("city", "categorical", 1_000),
        column("when", "datetime", 9_000_000),
        column("day", "datetime", 3_000),
        column("id", "identifier", 10**7, role="ignored"),
        column("x", "numeric", 10**7, dtype="float32"),
    ]
    size, largest = text_bytes(Schema(columns=columns, num_rows=10**7))
    assert (size, largest) == (220 * 1_004_000, "user")
