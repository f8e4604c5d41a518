"""Remote files: copied once in a process, then read like any other."""

import atexit
import errno
import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from kerastrain.errors import ConfigError, MissingExtra, SourceError
from kerastrain.events import note
from kerastrain.memory import size_text
from kerastrain.secrets import expand, hide_password

__all__ = ["Found", "address_of", "copies", "find_remote", "is_remote"]

_WEB = ("http", "https")
# What fsspec needs beside itself, for the addresses that people have most.
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs"}
_PACKAGES |= {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_PACKAGES |= {"memory": "fsspec", "ftp": "fsspec", "github": "fsspec"}
_IN_EXTRA = ("aiohttp", "s3fs", "fsspec")
# The client's own limit is 5 minutes for a whole file.
_CONNECT_S, _SILENCE_S = 30, 120


@dataclass(frozen=True)
class Found:
    """Files at a remote address.

    Args:
        shown: the address without secrets.
        files: its file system, of fsspec.
        sizes: name in the file system to bytes, or None where that is not told.
        root: the folder that was named, or "".
    """

    shown: str
    files: Any
    sizes: dict[str, int | None]
    root: str = ""


# Of this process: copies by address and name, and the addresses of the copies.
_copies: dict[tuple[str, str], Path] = {}
_addresses: dict[Path, str] = {}
_folder: list[Path] = []


def is_remote(text: str) -> bool:
    """Whether fsspec has a file system for the scheme of an address."""
    scheme, mark, _ = text.partition("://")
    scheme = scheme.partition("::")[0]  # as in zip::https://host/a.zip
    if not mark:
        return False
    if scheme in _PACKAGES:
        return True
    if importlib.util.find_spec("fsspec") is None:
        return False
    import fsspec

    return scheme in fsspec.available_protocols()


def address_of(path: Path) -> str:
    """The address that a file was copied from, without secrets; else its path."""
    return _addresses.get(path, str(path))


def find_remote(address: str) -> Found:
    """What lies at an address, a glob or a folder; nothing is copied yet.

    Credentials come from their usual places, such as the environment.

    Raises:
        SourceError: nothing there, or no right to read it.
        MissingExtra: the package for this kind of address is missing.
    """
    shown = hide_password(address)
    try:
        return _found(expand(address), shown)
    except (SourceError, ConfigError, MissingExtra):
        raise
    except ImportError as error:
        raise _missing(address) from error
    except Exception as error:  # each file system has errors of its own
        raise _refused(shown, error) from None


def copies(found: Found, names: Sequence[str]) -> list[Path]:
    """Local copies of the named files, in a folder that goes at exit.

    Raises:
        SourceError: no right to read one, no room for it, or the connection broke.
    """
    new = [name for name in names if (found.shown, name) not in _copies]
    if new:
        places = [_place(len(_copies) + i, name) for i, name in enumerate(new)]
        _check_room(found, new)
        try:
            found.files.get(new, list(map(str, places)))
        except Exception as error:
            for place in places:
                place.unlink(missing_ok=True)
            raise _refused(found.shown, error) from None
        for name, place in zip(new, places, strict=True):
            _check_whole(found, name, place)
            _copies[found.shown, name] = place
            _addresses[place] = hide_password(str(found.files.unstrip_protocol(name)))
        _tell(found.shown, places)
    return [_copies[found.shown, name] for name in names]


def _found(address: str, shown: str) -> Found:
    import fsspec

    files, path = fsspec.core.url_to_fs(address, **_options(address))
    if "*" in path or "[" in path:
        return Found(shown, files, _sizes(files.glob(path, detail=True)))
    if not address.startswith(_WEB) and files.isdir(path):
        sizes = _sizes(files.find(path, detail=True))
        return Found(shown, files, sizes, root=path.rstrip("/"))
    return Found(shown, files, {path: None})


def _options(address: str) -> dict[str, Any]:
    if address.partition("://")[0] not in _WEB:
        return {}
    import aiohttp

    limits = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S
    )
    return {"client_kwargs": {"timeout": limits}}


def _sizes(found: dict[str, dict[str, Any]]) -> dict[str, int | None]:
    return {
        name: info.get("size")
        for name, info in sorted(found.items())
        if info.get("type") != "directory"
    }


def _check_room(found: Found, names: Sequence[str]) -> None:
    """SourceError when the disk is too small for what is told of the sizes."""
    sizes = [found.sizes.get(name) for name in names]
    needed = sum(
        size or _size(found.files, n) for n, size in zip(names, sizes, strict=True)
    )
    free = shutil.disk_usage(_folder[0]).free
    if needed > free:
        raise SourceError(
            f"{found.shown} has {size_text(needed)}, but {_folder[0].parent} has room "
            f"for {size_text(free)}. Free some, or set TMPDIR to another disk."
        )


def _size(files: Any, name: str) -> int:
    try:
        return files.size(name) or 0
    except Exception:  # many servers do not tell; what is wrong, copying tells
        return 0


def _check_whole(found: Found, name: str, place: Path) -> None:
    told, got = found.sizes.get(name), place.stat().st_size
    if told is not None and told != got:
        place.unlink()
        raise SourceError(
            f"{found.shown}: the copy ended after {got:,} of {told:,} bytes, or the "
            "file changed meanwhile. Try again."
        )


def _place(number: int, name: str) -> Path:
    """A path of its own that keeps folders such as year=2020 and the file's name."""
    if not _folder:
        _folder.append(Path(tempfile.mkdtemp(prefix="kerastrain-remote-")))
        atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
    parts = PurePosixPath(urlsplit(name).path if "://" in name else name).parts
    parts = tuple(part for part in parts if part not in ("/", ".."))
    kept = [part for part in parts[:-1] if "=" in part]
    place = _folder[0].joinpath(str(number), *kept, parts[-1] if parts else "data")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _tell(shown: str, places: Sequence[Path]) -> None:
    num_bytes = sum(place.stat().st_size for place in places)
    files = "1 file" if len(places) == 1 else f"{len(places):,} files"
    note(
        "remote_copied",
        f"Copied {files} ({size_text(num_bytes)}) from {shown}.",
        files=len(places),
        bytes=num_bytes,
    )


def _missing(address: str) -> MissingExtra:
    scheme = address.partition("://")[0].partition("::")[0]
    package = _PACKAGES.get(scheme, "fsspec")
    beside = "" if package in _IN_EXTRA else f" {package}"
    return MissingExtra(
        f"Addresses of {scheme}:// need the package '{package}': "
        f"pip install 'kerastrain[remote]'{beside}."
    )


def _refused(shown: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"There is no file {shown}.")
    is_denied = isinstance(error, PermissionError)
    if is_denied or getattr(error, "status", None) in (401, 403):
        return SourceError(
            f"Access to {shown} is denied. Set the credentials for it where its own "
            "tools expect them, such as the environment."
        )
    if type(error).__name__ == "NoCredentialsError":
        return SourceError(
            f"No credentials for {shown}. Set them where its own tools expect them, "
            "such as AWS_ACCESS_KEY_ID or ~/.aws; for what is public FSSPEC_S3_ANON=1."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SourceError(
            f"No room for {shown} in {_folder[0].parent}. Free some, or set TMPDIR to "
            "another disk."
        )
    text = hide_password(" ".join(str(error).split()))[:200].rstrip(".")
    return SourceError(f"Cannot read {shown}: {text or type(error).__name__}.")
