"""Remote files: any file system of fsspec, a web server, a bucket."""

import functools
import http.server
import importlib.util
import shutil
import threading
from collections import namedtuple
from urllib.parse import parse_qs, urlsplit

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from kerastrain.errors import ConfigError, MissingExtra, SourceError
from kerastrain.events import recording
from kerastrain.source import open_source

CSV = b"a,b\n1,x\n2,y\n"


def rows(source):
    return pa.Table.from_batches(source.scan(), source.schema).to_pylist()


@pytest.fixture
def memory(tmp_path):
    """Puts files into fsspec's file system in memory; gives their address."""
    place = f"/{tmp_path.name}"
    files = fsspec.filesystem("memory")

    def put(name, content):
        files.pipe(f"{place}/{name}", content)
        return f"memory://{place}/{name}"

    yield put
    files.rm(place, recursive=True)


def parquet(*values):
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": list(values)}), buffer)
    return buffer.getvalue().to_pybytes()


# --- any file system ----------------------------------------------------------------


def test_a_file_is_copied_once_and_read_as_a_local_one(memory):
    address = memory("data.csv", CSV)
    with recording() as recorder:
        source = open_source(address)
        again = open_source([address], where="a > 1")
    assert source.name == "data.csv"
    assert rows(source) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert rows(again) == [{"a": "2", "b": "y"}]
    assert [e.code for e in recorder.events] == ["remote_copied"]
    (file,) = source.fingerprint()["files"]
    assert file["path"] == address
    assert file["bytes"] == len(CSV)


def test_a_glob_and_a_folder_name_files_in_order(memory):
    first = memory("p/a1.parquet", parquet(1, 2))
    memory("p/a2.parquet", parquet(3))
    memory("p/_SUCCESS", b"")
    folder = first.rpartition("/")[0]
    for address in (f"{folder}/*.parquet", folder, f"{folder}/"):
        assert [row["a"] for row in rows(open_source(address))] == [1, 2, 3]


def test_folders_of_a_remote_address_are_columns(memory):
    first = memory("t/year=2020/part.parquet", parquet(1))
    memory("t/year=2021/part.parquet", parquet(2))
    source = open_source(first.rpartition("/year")[0])
    assert rows(source) == [{"a": 1, "year": 2020}, {"a": 2, "year": 2021}]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", r"There is no file memory://.*/none.csv\.$"),
        ("*.parquet", r"No file matches 'memory://.*/\*.parquet'\.$"),
        ("", r"holds no data .*known.*\.docx"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(memory, name, message):
    address = memory("notes.docx", b"x").replace("notes.docx", name)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(address)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_fit_on_the_disk_is_not_copied(memory, monkeypatch):
    address = memory("big.csv", CSV * 1_000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 5, 5))
    with pytest.raises(SourceError, match="big.csv has .*set TMPDIR to another disk"):
        open_source(address)


def test_a_missing_package_is_named(monkeypatch):
    def absent(*arguments, **options):
        raise ImportError("Install gcsfs to access Google Cloud Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    message = r"of gs:// need the package 'gcsfs': pip install 'kerastrain\[remote\]' g"
    with pytest.raises(MissingExtra, match=message):
        open_source("gs://bucket/data.csv")
    with pytest.raises(MissingExtra, match=r"'s3fs': pip install '[^ ]*remote\]'\.$"):
        open_source("s3://bucket/data.csv")


def test_without_fsspec_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    hidden = functools.partial(lambda n, *a: None if n == "fsspec" else find(n, *a))
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kerastrain\[remote\]'"):
        open_source("https://localhost/data.csv")


# --- a web server -------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives a table to those who know the token, and in part where it is called cut."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        parts = urlsplit(self.path)
        token = parse_qs(parts.query).get("token", [""])[0]
        exists = parts.path in ("/data.csv", "/cut.csv", "/download")
        code = 403 if token != "hunter2" else 200 if exists else 404
        self.send_response(code)
        is_cut = parts.path == "/cut.csv"
        self.send_header("Content-Length", str(len(CSV) * (2 if is_cut else 1)))
        self.end_headers()
        if with_body:
            self.wfile.write(CSV if code == 200 else b" " * len(CSV))

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def web():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_address_is_read_and_its_token_never_shown(web):
    with recording() as recorder:
        source = open_source(f"{web}/data.csv?token=hunter2")
    assert rows(source) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    shown = f"{source.name} {source.fingerprint()} {recorder.events}"
    assert "hunter2" not in shown
    assert source.name == "data.csv"
    (file,) = source.fingerprint()["files"]
    assert file["path"] == f"{web}/data.csv?token=***"


def test_a_token_may_come_from_the_environment(web, monkeypatch):
    address = web + "/data.csv?token=${WEB_TOKEN}&fresh=1"
    with pytest.raises(ConfigError, match="the environment has no variable WEB_TOKEN"):
        open_source(address)
    monkeypatch.setenv("WEB_TOKEN", "hunter2")
    source = open_source(address)
    assert len(rows(source)) == 2
    assert "hunter2" not in str(source.fingerprint())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.csv?token=hunter2", r"There is no file http.*/none.csv\?token=\*\*\*\."),
        ("data.csv?token=secret", r"Access to http.*\?token=\*\*\* is denied. Set the"),
        ("cut.csv?token=hunter2", r"Cannot read http.*/cut.csv\?token=\*\*\*: "),
        (
            "download?token=hunter2",
            r"Cannot tell by its ending .*/download\?token=\*\*",
        ),
    ],
)
def test_what_the_web_server_refuses_is_told_in_one_line(web, path, message):
    with pytest.raises(SourceError, match=message) as caught:
        open_source(f"{web}/{path}")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_in_one_line():
    with pytest.raises(SourceError, match=r"^Cannot read http://127.0.0.1:9/data.csv"):
        open_source("http://127.0.0.1:9/data.csv")


# --- a bucket -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """Address of a bucket with files, and credentials for it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="rows")
    client.put_object(Bucket="rows", Key="data.csv", Body=CSV)
    client.put_object(Bucket="rows", Key="t/year=2020/p.parquet", Body=parquet(1))
    client.put_object(Bucket="rows", Key="t/year=2021/p.parquet", Body=parquet(2))
    client.close()
    fsspec.filesystem("s3").clear_instance_cache()
    yield "s3://rows"
    fsspec.filesystem("s3").clear_instance_cache()


def test_files_of_a_bucket_are_read(bucket):
    source = open_source(f"{bucket}/data.csv")
    assert rows(source) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert source.fingerprint()["files"][0]["path"] == "s3://rows/data.csv"
    for address in (f"{bucket}/t", f"{bucket}/t/*/*.parquet"):
        source = open_source(address)
        assert rows(source) == [{"a": 1, "year": 2020}, {"a": 2, "year": 2021}]


@pytest.mark.parametrize("address", ["s3://rows/none.csv", "s3://nowhere/data.csv"])
def test_what_is_not_in_a_bucket_is_told_in_one_line(bucket, address):
    with pytest.raises(SourceError, match=f"^There is no file {address}") as caught:
        open_source(address)
    assert "\n" not in str(caught.value)
