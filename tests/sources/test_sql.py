"""Tables of real data bases: SQLite, DuckDB and PostgreSQL."""

import datetime as dt
import errno
import gc
import glob
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet
import pytest

from kerastrain.config import RunConfig, SourceConfig
from kerastrain.config.file import load_config
from kerastrain.errors import ConfigError, SourceError
from kerastrain.events import read_events, recording
from kerastrain.memory import Budget, limited
from kerastrain.source import open_source
from kerastrain.sources import sql

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


def test_a_password_of_any_characters_may_stand_in_the_environment(server, monkeypatch):
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
            "[1, 2] AS l, INTERVAL 1 DAY AS i, 'a'::ENUM('a', 'b') AS e"
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


# --- what any data base has ---------------------------------------------------------


def test_a_table_comes_in_the_order_of_its_primary_key(server, tmp_path):
    with psycopg.connect(server) as connection:
        connection.execute("CREATE TABLE later (b int, a int, PRIMARY KEY (a, b))")
        connection.execute("INSERT INTO later VALUES (1, 9), (2, 1), (1, 1)")
    wanted = [{"b": 1, "a": 1}, {"b": 2, "a": 1}, {"b": 1, "a": 9}]
    assert rows_of(open_source(f"{server}?table=later")) == wanted
    assert rows_of(open_source(f"{server}?table=later", where="a < 9")) == wanted[:2]


def test_a_query_is_run_once(server, monkeypatch):
    asked = []
    once = sql._Alchemy._asked
    spy = lambda self, text: asked.append(text) or once(self, text)  # noqa: E731
    monkeypatch.setattr(sql._Alchemy, "_asked", spy)
    query = "SELECT random() AS n, g FROM generate_series(1, 3) g"
    source = open_source(server, SourceConfig(query=query), select=["n"])
    first = rows_of(source)
    assert rows_of(source) == first
    assert source.fingerprint() == source.fingerprint()
    assert len([text for text in asked if "WHERE 1 = 0" not in text]) == 1


def test_types_of_postgresql_that_a_table_has_not_are_text(server):
    query = (
        """SELECT '{"a": [1, null]}'::jsonb AS j, ARRAY[1, 2] AS l, """
        "time '10:00' AS t, timestamptz '2020-01-01 12:00+02' AS at, "
        "'\\x00ff'::bytea AS b, "
        "'NaN'::numeric AS n, gen_random_uuid() AS u, 2::numeric(30) AS big"
    )
    source = open_source(f"{server}?options=-ctimezone=UTC", SourceConfig(query=query))
    [row] = rows_of(source)
    assert (row["j"], row["l"], row["t"]) == ('{"a": [1, null]}', "[1, 2]", "10:00:00")
    assert (row["at"], row["b"]) == (dt.datetime(2020, 1, 1, 10), b"\x00\xff")
    assert (row["n"] != row["n"], len(row["u"]), row["big"]) == (True, 36, 2.0)


def test_a_table_of_another_schema_is_suggested(server):
    with pytest.raises(
        SourceError, match="table 'shop.nmbers'. Did you mean 'shop.num"
    ):
        open_source(f"{server}?table=shop.nmbers")
    with pytest.raises(
        SourceError, match='^--where m > 1: column "m" does not .*: n, '
    ):
        open_source(f"{server}?table=shop.numbers", where="m > 1")


@pytest.mark.parametrize("raw", ["p@ss", "pa ss@w/rd"])
def test_a_password_that_cannot_stand_in_an_address_is_refused(server, raw):
    address = server.replace(PASSWORD, raw) + "?table=people"
    with pytest.raises(SourceError, match="In a password write %40 for @") as caught:
        open_source(address)
    assert not {"ss@", "w/rd", "'w'"} & set(str(caught.value).split())
    with pytest.raises(SourceError, match="is no address of a data base"):
        open_source("postgresql://me@host:port/db?table=people")


def test_a_password_may_stand_behind_the_question_mark(server, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    bare = server.replace(f":{PASSWORD}@", "@")
    source = open_source(f"{bare}?password=${{DB_PASSWORD}}&table=people")
    assert len(rows_of(source)) == 3
    assert PASSWORD not in str(source.fingerprint())


def test_a_data_base_is_only_read(sqlite):
    for query in ("DROP TABLE people", "DELETE FROM people RETURNING id"):
        with pytest.raises(SourceError, match="syntax error"):
            open_source(sqlite, SourceConfig(query=query))
    assert len(rows_of(open_source(sqlite))) == 3


def test_types_that_show_late_hold_for_all_rows(tmp_path):
    path = tmp_path / "late.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (gap, half, mixed, huge, never)")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, NULL)",
        [(None if i < 900 else "x", i, i / 2, i) for i in range(1000)],
    )
    connection.execute("INSERT INTO t VALUES (NULL, 0.5, X'6162', 1e19, NULL)")
    connection.commit()
    connection.close()
    with recording(listen=lambda _: None) as recorder:
        source = open_source(path)
        rows = rows_of(source)
    kinds = ["string", "double", "string", "double", "string"]
    assert [*map(str, source.schema.types)] == kinds
    assert (rows[0]["gap"], rows[950]["gap"]) == (None, "x")
    assert [rows[i]["half"] for i in (0, 999, 1000)] == [0.0, 999.0, 0.5]
    assert [rows[i]["mixed"] for i in (0, 999, 1000)] == ["0.0", "499.5", "ab"]
    assert (rows[999]["huge"], rows[1000]["huge"]) == (999.0, 1e19)
    [event] = [e for e in recorder.events if e.code == "column_mixed_types"]
    assert event.details == {"column": "mixed", "types": ["binary", "double"]}


def test_names_with_colons_and_percent_signs_are_no_parameters(sqlite):
    query = "SELECT name AS \"a:b\" FROM people WHERE name LIKE 'Zo%: %';"
    source = open_source(sqlite, SourceConfig(query=query))
    assert rows_of(source) == [{"a:b": "Zoe: 'x'"}]


def test_the_table_of_an_address_counts_before_the_query(sqlite):
    config = SourceConfig(query="SELECT 1 AS one")
    with recording(listen=lambda _: None) as recorder:
        source = open_source(f"sqlite:///{sqlite}?table=people", config)
    assert source.schema.names == NAMES
    assert [event.code for event in recorder.events] == ["query_not_used"]


def test_the_copy_of_the_rows_goes_with_the_source(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source = open_source(sqlite)
    rows_of(source)
    assert len([*(tmp_path / "tmp").rglob("*.parquet")]) == 1
    del source
    gc.collect()
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_a_full_disk_is_told_in_one_line(sqlite, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pa.parquet.ParquetWriter, "write_batch", refuse)
    with pytest.raises(
        SourceError, match="on disk: No space left on device. Free some"
    ):
        rows_of(open_source(sqlite))


# --- DuckDB ---------------------------------------------------------------------------


@pytest.fixture
def duck(tmp_path):
    path = tmp_path / "file.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.execute(
            "CREATE TABLE t AS SELECT range AS n, "
            "timestamptz '2020-01-01 12:00+00' AS at FROM range(50000)"
        )
        connection.execute("CREATE SCHEMA other")
        connection.execute(
            "CREATE VIEW other.few AS SELECT n FROM t WHERE n % 10000 = 0"
        )
    return path


def test_a_file_of_duckdb_is_read_in_its_order_under_any_budget(duck, tmp_path):
    with limited(Budget(3 << 30, 0, tmp_path)):
        first = open_source(duck)
    second = open_source(f"{duck}?table=t", select=["n"])
    assert [row["n"] for row in rows_of(second)] == [*range(50_000)]
    assert rows_of(first)[0] == {"n": 0, "at": dt.datetime(2020, 1, 1, 12)}
    few = open_source(duck, SourceConfig(table="other.few"))
    assert [row["n"] for row in rows_of(few)] == [0, 10_000, 20_000, 30_000, 40_000]


def test_a_file_of_duckdb_that_is_held_or_none_is_told(duck, tmp_path):
    with (
        duckdb.connect(str(duck)),
        pytest.raises(SourceError, match="^Cannot read duckdb:///.*already attached"),
    ):
        open_source(duck)
    with pytest.raises(
        SourceError, match="no file .*fil.duckdb. Did you mean 'file.du"
    ):
        open_source(f"duckdb:///{tmp_path / 'fil.duckdb'}?table=t")
    (tmp_path / "text.duckdb").write_text("no data base" * 99)
    with pytest.raises(SourceError, match="not a database"):
        open_source(tmp_path / "text.duckdb")


# --- a run ----------------------------------------------------------------------------


@pytest.mark.slow
def test_no_file_of_a_run_holds_the_password(server, tmp_path, monkeypatch):
    from kerastrain.cli import main

    address = f"{server}?table=shop.numbers"
    options = ["--target", "half", "--model", "linear", "--epochs", "1", "--folds", "1"]
    words = ["train", address, *options, "--where", "n <= 2000", "--columns", "n,label"]
    monkeypatch.setattr(sys, "argv", ["kerastrain", *words])
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    [run] = (tmp_path / "runs").iterdir()
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"config.yaml", "events.jsonl", "environment.json", "report.html"} <= {
        path.name for path in files
    }
    assert PASSWORD not in run.name
    for path in files:
        assert PASSWORD.encode() not in path.read_bytes(), path
    assert "me:***@127.0.0.1" in (run / "config.yaml").read_text()
    codes = [event.code for event in read_events(run / "events.jsonl")]
    assert codes.count("password_hidden") == 1
    with pytest.raises(ConfigError, match="the password was not saved. Put it in the"):
        open_source(load_config(run / "config.yaml")["data"])


@pytest.mark.parametrize(
    "address", ["pg://me:pw1@host", "pg://me:p?pw1@host/db?table=t"]
)
def test_a_run_folder_is_not_named_after_a_password(address):
    from kerastrain.scene import _run_name

    assert "pw1" not in _run_name(RunConfig(data=address, target="y"))
