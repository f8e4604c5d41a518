"""Passwords in addresses are used, and nowhere shown or saved."""

import json

import pytest

from kerastrain.config import RunConfig
from kerastrain.environment import describe
from kerastrain.errors import ConfigError
from kerastrain.events import note, recording
from kerastrain.secrets import expand, has_password, hide_password

HIDDEN = [
    ("postgresql://me:hunter2@host:5432/db", "postgresql://me:***@host:5432/db"),
    ("see mysql+pymysql://a:p%40ss/w@h/d now", "see mysql+pymysql://a:***@h/d now"),
    ("https://h/x.csv?token=abc&year=2", "https://h/x.csv?token=***&year=2"),
    ("https://h/x?X-Amz-Signature=abc", "https://h/x?X-Amz-Signature=***"),
    ("az://c/f?sas=abc;key=q", "az://c/f?sas=***;key=***"),
    ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
    ("postgresql://u:pa'ss\"1@host/d", "postgresql://u:***@host/d"),
    ("postgresql://u:p@ss@host/d", "postgresql://u:***@host/d"),
    ("postgresql://u:pa ss@host/d", "postgresql://u:***@host/d"),
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_passwords_and_tokens_are_hidden(text, shown):
    assert hide_password(text) == shown
    assert has_password(text)
    assert hide_password(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a.csv",
        "https://host/key=1/x.csv",
        "postgresql://me@host/db?table=t",
        "postgresql://me:${DB_PASSWORD}@host/db",
        "key=1",
        "at 10:30 see me@host",
    ],
)
def test_what_is_no_secret_stays(text):
    assert hide_password(text) == text
    assert not has_password(text)


def test_a_variable_is_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    assert expand("postgresql://me:${DB_PASSWORD}@h/d") == "postgresql://me:hunter2@h/d"
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(ConfigError, match="the environment has no variable DB_PASSW"):
        expand("postgresql://me:${DB_PASSWORD}@h/d")


def test_a_password_that_was_not_saved_has_to_be_put_back():
    with pytest.raises(ConfigError, match="the password was not saved. Put it in the"):
        expand("postgresql://me:***@h/d")


def test_nothing_that_is_saved_holds_the_password(tmp_path):
    address = "postgresql://me:hunter2@host/db?table=t"
    with recording(tmp_path / "events.jsonl", lambda _: None):
        note("x", f"read {address}", where=[address], more={"at": address})
    config = RunConfig(data=address, target="y", test=[address]).dumps()
    surroundings = json.dumps(describe(0, {}, ["kerastrain", "train", address]))
    for text in (config, surroundings, (tmp_path / "events.jsonl").read_text()):
        assert "hunter2" not in text
        assert "me:***@host" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:pa ss@w/rd@host/d", "postgresql://u:***@host/d"),
        ("postgresql://u:pw@h/d?options=a@b", "postgresql://u:***@h/d?options=a@b"),
        ("postgresql://u:pw@/d?host=/tmp", "postgresql://u:***@/d?host=/tmp"),
        ("see 'https://h/x?token=abc'.", "see 'https://h/x?token=***'."),
        ("https://ghp_abc@host/x.csv", "https://***@host/x.csv"),
        (
            "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dgeheim%3BX%3D1",
            "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D***%3BX%3D1",
        ),
        (
            "pg://h:5432/d, then mysql://me:pw@h",
            "pg://h:5432/d, then mysql://me:***@h",
        ),
    ],
)
def test_what_stands_around_a_password_is_kept(text, shown):
    assert hide_password(text) == shown
    assert hide_password(shown) == shown


def test_an_address_with_a_port_holds_no_password():
    text = "https://host:8080/x.csv was written by me@host"
    assert hide_password(text) == text


def test_a_password_is_hidden_where_a_driver_tells_it_alone():
    address = "postgresql://me:p%40ss@host/d?sslpassword=other"
    told = "no entry for me with p@ss, p%40ss or other"
    assert hide_password(told, of=address) == "no entry for me with ***, *** or ***"


def test_a_value_of_any_characters_is_written_as_an_address_needs_it(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "p@s/s#%41 x")
    assert expand("pg://u:${DB_PASSWORD}@h/d") == "pg://u:p%40s%2Fs%23%2541%20x@h/d"
    monkeypatch.setenv("DATABASE_URL", "pg://u:pw@h/d")
    assert expand("${DATABASE_URL}?table=t") == "pg://u:pw@h/d?table=t"
    assert expand("a.csv") == "a.csv"


def test_the_data_of_a_run_are_described_without_the_password():
    data = {"data": {"query": "read 'https://h/x?token=hunter2'", "files": [{"n": 1}]}}
    told = describe(0, data, "train")["data"]
    assert told == {
        "data": {"query": "read 'https://h/x?token=***'", "files": [{"n": 1}]}
    }
