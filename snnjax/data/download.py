"""Downloads files from mirrors: checked by SHA-256, never half-written.

Own code on top of urllib: scikit-learn's `fetch_file` shows no progress and gives up no server that sends nothing, and
pooch would be one more package.
"""

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from tqdm import tqdm

from snnjax.core import files
from snnjax.core.errors import DownloadError, InputError
from snnjax.data.catalogue import File, Published

TIMEOUT = 20.0  # seconds until a server that sends nothing is given up


def download(published: Published, folder: Path) -> None:
    """Downloads a set's files that a folder lacks, and extracts the wanted members of archives.

    A file gets its name when its checksum is right. Other processes that download into the folder at the same time wait
    for this one. Errors are as in `snnjax.data.fetch`.
    """
    mirrors = published.mirrors
    if own := os.environ.get("SNNJAX_MIRROR"):
        if urlsplit(own).scheme not in ("http", "https", "file"):
            raise InputError(f"`SNNJAX_MIRROR` must begin with https://, http:// or file://, got {own!r}")
        mirrors = (f"{own.rstrip('/')}/{published.folder}/", *mirrors)
    folder.mkdir(parents=True, exist_ok=True)
    with files.lock(folder, waiting=f"waiting for another download into {folder}"):
        files.clear(folder)
        for file in published.files:
            names = [path.rpartition("/")[2] for path in file.members] or [file.name]
            if all((folder / name).is_file() for name in names):
                continue
            part = folder / f".{file.name}.part"
            _receive(file, mirrors, part)
            if file.members:
                _extract(part, file.members, folder)
                part.unlink()
            else:
                part.replace(folder / file.name)


def _receive(file: File, mirrors: Iterable[str], part: Path) -> None:
    """Writes the file to `part`, from the first mirror that gives it; raises DownloadError if none does."""
    reasons = []
    for mirror in mirrors:
        try:
            return _copy(mirror + file.name, file, part)
        except (OSError, HTTPException) as error:
            reasons.append(f"{mirror} ({error})")
    raise DownloadError(f"{file.name} from {', '.join(reasons)}")


def _copy(address: str, file: File, part: Path) -> None:
    """Writes what an address gives to `part`; raises OSError unless it is the published file."""
    with urlopen(address, timeout=TIMEOUT) as response, part.open("wb") as out:
        promised = response.headers["Content-Length"]
        if promised not in (None, str(file.size)):  # such as a network's page to log in
            raise OSError(f"it offers {promised} bytes, not {file.size}")
        with tqdm.wrapattr(response, "read", file.size, desc=file.name, disable=None) as reader:
            shutil.copyfileobj(reader, out)
    with part.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() != file.sha256:
            raise OSError("its SHA-256 is not that of the published file")


def _extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Writes the members of a zip or tar archive, whose checksum is known, into a folder, each under its last name."""
    streams: Iterable[tuple[str, Any]]
    with ExitStack() as stack:
        if zipfile.is_zipfile(archive):
            zipped = stack.enter_context(zipfile.ZipFile(archive))
            streams = ((name, zipped.open(name)) for name in members)
        else:
            tar = stack.enter_context(tarfile.open(archive))
            streams = ((entry.name, tar.extractfile(entry)) for entry in tar if entry.name in members)
        for name, content in streams:
            with content, files.atomic_write(folder / name.rpartition("/")[2]) as path, path.open("wb") as out:
                shutil.copyfileobj(content, out)
