"""Tables of real data bases: SQLite, DuckDB and PostgreSQL."""

import datetime as dt
import glob
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from kerastrain.config import SourceConfig
from kerastrain.errors import ConfigError, SourceError
from kerastrain.events import recording
from kerastrain.source import open_source

BIN = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"))), None)
PASSWORD = "hunter2"
ROWS = [
    (1, "Ada", 1.5, True, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 3, 4, 5)),
    (2, None, None, False, None, None),
    (3, "Zoe: 'x'", -2.0, None, dt.date(1999, 12, 31), dt.datetime(2021, 1, 1)),
]
NAMES = ["id", "name", "size", "ok", "day", "at"]


def rows_of(source):
    table = pa.Table.from_batches(source.scan(), source.schema)
    return table.to_pylist()


def run_as_postgres(*command, check=True):
    user = "postgres" if os.getuid() == 0 else None
    return subprocess.run(
        [str(part) for part in command],
        user=user,
        check=check,
        capture_output=True,
        cwd="/",
    )


@pytest.fixture(scope="session")
def server():
    """Address of a PostgreSQL server of our own, on the loopback."""
    if BIN is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="kerastrain-pg-"))
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, secret):
            shutil.chown(path, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    run_as_postgres(
        f"{BIN}/initdb", "-D", data, "-U", "me", "-A", "md5", f"--pwfile={secret}"
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    run_as_postgres(
        f"{BIN}/pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"
    )
    address = f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        fill_postgres(address)
        yield address
    finally:
        run_as_postgres(f"{BIN}/pg_ctl", "-D", data, "-m", "immediate", "stop")
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def fill_postgres(address):
    with psycopg.connect(address) as connection:
        connection.execute(
            "CREATE TABLE people (id int, name text, size numeric(6,2), ok boolean, "
            "day date, at timestamp)"
        )
        for row in ROWS:
            connection.execute(
                "INSERT INTO people VALUES (%s, %s, %s, %s, %s, %s)", row
            )
        connection.execute("CREATE SCHEMA shop")
        connection.execute(
            "CREATE TABLE shop.numbers AS SELECT g AS n, g * 0.5::float8 AS half, "
            "'v' || g % 7 AS label, timestamptz '2020-01-01 12:00+00' AS at "
            "FROM generate_series(1, 50000) g"
        )


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "file.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (id, name, size, ok, day, at)")
    connection.executemany(
        "INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)",
        [(*row[:4], *(None if v is None else str(v) for v in row[4:])) for row in ROWS],
    )
    connection.commit()
    connection.close()
    return path


# --- PostgreSQL -------------------------------------------------------------------


def test_a_table_of_postgresql_is_read_with_its_types(server):
    source = open_source(f"{server}?table=people")
    assert [str(kind) for kind in source.schema.types] == [
        "int64", "string", "double", "bool", "timestamp[us]", "timestamp[us]",
    ]  # fmt: skip
    assert rows_of(source) == [
        dict(
            zip(
                NAMES,
                (
                    dt.datetime(v.year, v.month, v.day) if type(v) is dt.date else v
                    for v in row
                ),
                strict=True,
            )
        )
        for row in ROWS
    ]
    assert rows_of(source) == rows_of(source)
    assert (source.num_rows, source.fingerprint()["rows"]) == (3, 3)


def test_a_query_and_a_condition_are_answered_by_the_data_base(server):
    source = open_source(
        f"{server}?table=shop.numbers", where="n % 1000 = 0 AND n < 9000"
    )
    assert [row["n"] for row in rows_of(source)] == [*range(1000, 9000, 1000)]
    chosen = open_source(f"{server}?table=shop.numbers", select=["label", "n"])
    assert chosen.schema.names == ["label", "n"]
    assert sum(batch.num_rows for batch in chosen.scan(["n"])) == 50_000
    query = (
        "select label, avg(half) as m from shop.numbers "
        "where at > '2019-12-31 10:30:00' group by 1 order by 1"
    )
    asked = rows_of(open_source(server, SourceConfig(query=query)))
    assert [row["label"] for row in asked] == [f"v{i}" for i in range(7)]


def test_a_password_is_never_told(server, tmp_path):
    for address in (
        server.replace(PASSWORD, "wrong") + "?table=people",
        server.replace("/postgres", "/nothing") + "?table=people",
        f"{server}?table=peple",
    ):
        with pytest.raises(SourceError) as caught:
            open_source(address)
        assert PASSWORD not in str(caught.value)
        assert "wrong@" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert ":***@127.0.0.1" in str(caught.value)
    source = open_source(f"{server}?table=people")
    assert PASSWORD not in str(source.fingerprint()) + source.name


def test_a_password_of_any_characters_may_stand_in_the_environment(
    server, monkeypatch
):
    odd = "p@s/s#%41 ':"
    with psycopg.connect(server) as connection:
        connection.execute("DROP ROLE IF EXISTS odd")
        literal = psycopg.sql.Literal(odd)
        connection.execute(
            psycopg.sql.SQL("CREATE ROLE odd LOGIN SUPERUSER PASSWORD {}").format(
                literal
            )
        )
    monkeypatch.setenv("DB_PASSWORD", odd)
    place = server.rpartition("@")[2]
    source = open_source(f"postgresql://odd:${{DB_PASSWORD}}@{place}?table=people")
    assert len(rows_of(source)) == 3
    assert "${DB_PASSWORD}" in source.name


# --- SQLite and DuckDB --------------------------------------------------------------


def test_a_file_of_sqlite_is_read_with_the_types_of_its_values(sqlite):
    for address in (str(sqlite), f"sqlite:///{sqlite}?table=people"):
        with recording(listen=lambda _: None) as recorder:
            source = open_source(address)
        assert [row["id"] for row in rows_of(source)] == [1, 2, 3]
        assert source.schema.field("size").type == pa.float64()
        assert source.schema.field("name").type == pa.string()
    assert recorder.events == []


def test_its_only_table_is_taken_and_told(sqlite):
    with recording(listen=lambda _: None) as recorder:
        open_source(sqlite)
    [event] = recorder.events
    assert "its only table, 'people', is read" in event.message


def test_a_column_of_several_types_is_text_and_told(sqlite):
    connection = sqlite3.connect(sqlite)
    connection.execute("INSERT INTO people (id) VALUES ('four')")
    connection.commit()
    connection.close()
    with recording(listen=lambda _: None) as recorder:
        source = open_source(sqlite)
    assert [row["id"] for row in rows_of(source)] == ["1", "2", "3", "four"]
    assert "column_mixed_types" in {event.code for event in recorder.events}


def test_rows_that_change_between_passes_do_not_change_the_table(sqlite):
    source = open_source(sqlite)
    before = rows_of(source)
    connection = sqlite3.connect(sqlite)
    connection.execute("DELETE FROM people")
    connection.commit()
    connection.close()
    assert rows_of(source) == before


def test_a_choice_of_rows_leaves_the_source_as_it_was(sqlite):
    source = open_source(sqlite)
    few = open_source(source, where="id > 1", select=["id"])
    assert [row["id"] for row in rows_of(few)] == [2, 3]
    assert len(rows_of(source)) == 3
    assert len(source.schema.names) == 6
    assert [b.num_rows for b in open_source(sqlite).scan()] == [3]  # of no variable


def test_types_of_duckdb_are_made_plain(tmp_path):
    path = tmp_path / "odd.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 1.25::DECIMAL(9,2) AS d, 7::HUGEINT AS h, "
            "[1, 2] AS l, INTERVAL 1 DAY AS i, \'a\'::ENUM(\'a\', \'b\') AS e"
        )
    source = open_source(
        path, SourceConfig(name="auto", query="select d, h, l, i, e from t;")
    )
    assert rows_of(source) == [
        {"d": 1.25, "h": 7.0, "l": "[1, 2]", "i": "1 day", "e": "a"}
    ]


def test_a_file_of_duckdb_is_read(tmp_path):
    path = tmp_path / "file.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE a AS SELECT range AS n FROM range(5)")
        connection.execute("CREATE TABLE b AS SELECT 1 AS one")
    with pytest.raises(SourceError, match="which table.* Tables: a, b."):
        open_source(path)
    with pytest.raises(SourceError, match="has no table 'c'."):
        open_source(f"duckdb:///{path}?table=c")
    source = open_source(f"duckdb:///{path}?table=a", where="n > 2")
    assert rows_of(source) == [{"n": 3}, {"n": 4}]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "mysql://me:pw@127.0.0.1/db",
            "mysql://me:\\*\\*\\*@127.0.0.1/db needs a driver: ",
        ),
        ("nosuch://host/db", "^No data base and no remote file is known by nosuch://."),
        ("sqlite:///nothing.db", "^There is no file nothing.db."),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(address, message):
    with pytest.raises(SourceError, match=message):
        open_source(address)


def test_a_condition_that_the_data_base_refuses_is_told(sqlite):
    with pytest.raises(SourceError, match="no such column: sise"):
        open_source(sqlite, where="sise > 1")


def test_a_query_and_a_table_at_once_are_refused(sqlite):
    config = SourceConfig(name="sql", query="select 1 as a", table="people")
    with pytest.raises(ConfigError, match="a query and a table are named"):
        open_source(sqlite, config)
    source = open_source(
        sqlite, SourceConfig(name="auto", query="select id from people")
    )
    assert source.schema.names == ["id"]
