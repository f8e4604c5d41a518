"""Remote files: copied once in a process, then read like any other."""

import atexit
import contextlib
import hashlib
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kerastrain.errors import MissingExtra, SourceError
from kerastrain.events import note
from kerastrain.memory import size_text
from kerastrain.secrets import expand, hide_password

__all__ = ["address_of", "is_remote", "local_copies"]

CHUNK_BYTES = 8 << 20
# Schemes that need nothing but fsspec to be known for what they are.
_WEB = ("http", "https")
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
}
# Copies of this process: place to address without secrets, and address to places.
_addresses: dict[Path, str] = {}
_copies: dict[str, list[Path]] = {}
_folder: list[Path] = []


def is_remote(text: str) -> bool:
    """Whether fsspec has a file system for the scheme of an address."""
    scheme, mark, _ = text.partition("://")
    if not mark:
        return False
    if scheme in _WEB or scheme in _PACKAGES:
        return True
    if importlib.util.find_spec("fsspec") is None:
        return False
    import fsspec

    return scheme in fsspec.available_protocols()


def address_of(path: Path) -> str:
    """The address that a file was copied from, without secrets; else its path."""
    return _addresses.get(path, str(path))


def local_copies(address: str) -> list[Path]:
    """Files at an address or a glob of them, copied into a folder that goes at exit.

    Credentials come from their usual places, such as the environment.

    Raises:
        SourceError: nothing there, no right to read it, or no room for it.
        MissingExtra: the package for this kind of address is missing.
    """
    if address not in _copies:
        shown = hide_password(address)
        try:
            files, names = _opened(expand(address))
            _copies[address] = _copied(files, names, shown)
        except ImportError as error:
            if isinstance(error, MissingExtra):
                raise
            raise _missing(address) from error
        except SourceError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise _refused(shown, error) from None
    return _copies[address]


def _opened(address: str) -> tuple[Any, list[str]]:
    """The file system, and the names of the files in it."""
    import fsspec

    files, path = fsspec.core.url_to_fs(address)
    if "*" in path or "[" in path:
        return files, sorted(str(name) for name in files.glob(path))
    if not address.startswith(_WEB) and files.isdir(path):
        found = sorted(str(name) for name in files.find(path))
        return files, [n for n in found if not Path(n).name.startswith(("_", "."))]
    return files, [path]


def _copied(files: Any, names: list[str], shown: str) -> list[Path]:
    if not names:
        raise SourceError(f"No file matches '{shown}'.")
    paths, num_bytes = [], 0
    for name in names:
        place = _place(shown, name)
        num_bytes += _copy(files, name, place)
        _addresses[place] = hide_password(str(files.unstrip_protocol(name)))
        paths.append(place)
    note(
        "remote_copied",
        f"Copied {len(paths)} {'file' if len(paths) == 1 else 'files'} "
        f"({size_text(num_bytes)}) from {shown}.",
        bytes=num_bytes,
    )
    return paths


def _copy(files: Any, name: str, place: Path) -> int:
    """Bytes that were copied, a chunk at a time."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(files.open(name, "rb"))
        target = stack.enter_context(place.open("wb"))
        size = getattr(source, "size", None)
        free = shutil.disk_usage(place.parent).free
        if size and size > free:
            raise SourceError(
                f"{hide_password(name)} has {size_text(size)}, but {place.parent} has "
                f"room for {size_text(free)}. Free some, or set TMPDIR to another disk."
            )
        num_bytes = 0
        while chunk := source.read(CHUNK_BYTES):
            num_bytes += target.write(chunk)
        return num_bytes


def _place(shown: str, name: str) -> Path:
    """A path that keeps the file's own name, and folders such as year=2020."""
    if not _folder:
        _folder.append(Path(tempfile.mkdtemp(prefix="kerastrain-remote-")))
        atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
    digest = hashlib.sha256(shown.encode()).hexdigest()[:12]
    plain = name.partition("?")[0].rstrip("/")
    kept = [part for part in plain.split("/")[:-1] if "=" in part]
    place = _folder[0].joinpath(digest, *kept, plain.rpartition("/")[2] or "data")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _missing(address: str) -> MissingExtra:
    scheme = address.partition("://")[0]
    package = _PACKAGES.get(scheme, "fsspec")
    return MissingExtra(
        f"Addresses of {scheme}:// need the package '{package}': "
        "pip install 'kerastrain[remote]'"
        + ("." if package in ("s3fs", "fsspec") else f" and {package}.")
    )


def _refused(shown: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"There is no file {shown}.")
    if isinstance(error, PermissionError):
        return SourceError(
            f"Access to {shown} is denied. Set the credentials for it as its own tools "
            "expect them."
        )
    text = hide_password(" ".join(str(error).split()))[:200].rstrip(".")
    return SourceError(f"Cannot read {shown}: {text or type(error).__name__}.")
