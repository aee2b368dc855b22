"""Downloads of data sets, from real servers on this machine that behave well or badly."""

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import importlib.resources
import io
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tarfile
import termios
import threading
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from test_data import CIFAR, FILES, RNG, idx

from snnjax.core import files
from snnjax.core.errors import DownloadError, InputError
from snnjax.data import DATASETS, download, fetch, find, load
from snnjax.data.catalogue import CATALOGUE, File, Published
from snnjax.data.download import download as bring

CONTENT = {"one.gz": RNG.bytes(300_000), "two.gz": RNG.bytes(1_000)}
PAGE = b"<html>Please log in to the network</html>"


def files_of(content: dict[str, bytes], members: tuple[str, ...] = ()) -> tuple[File, ...]:
    return tuple(File(name, len(each), hashlib.sha256(each).hexdigest(), members) for name, each in content.items())


@dataclasses.dataclass
class Server:
    """A server in a thread: how it behaves, what it was asked for (path, Range), and how many bytes it has sent."""

    behave: Callable[["Handler", bytes], object]
    content: dict[str, bytes]
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)
    sent: int = 0
    released: threading.Event = dataclasses.field(default_factory=threading.Event)
    address: str = ""

    def __post_init__(self) -> None:
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), dict(server_=self)))
        self.address = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    server_: Server

    def do_GET(self) -> None:
        self.server_.asked.append((self.path, self.headers["Range"]))
        with contextlib.suppress(OSError):  # the client may have gone
            self.server_.behave(self, self.server_.content.get(self.path.rpartition("/")[2], b""))

    def log_message(self, *_) -> None:
        pass

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, piece: bytes) -> None:
        self.wfile.write(piece)
        self.wfile.flush()
        self.server_.sent += len(piece)

    def start(self, content: bytes, resumes: bool = True) -> bytes:
        """Sends the head of what was asked for, and gives what follows."""
        wanted = self.headers["Range"] if resumes else None
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        extra = dict(Content_Range=f"bytes {first}-{len(content) - 1}/{len(content)}") if wanted else {}
        self.head(206 if wanted else 200, Content_Length=len(content) - first, **extra)
        return content[first:]


def sent(server: Server, count: int) -> bool:
    """Whether it has sent so many bytes, which it counts a moment after they have arrived."""
    deadline = time.monotonic() + 10
    while server.sent < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.sent == count


def good(handler, content):
    handler.send(handler.start(content))


def forgetful(handler, content):
    """Cannot continue, and breaks off once."""
    left = handler.start(content, resumes=False)
    handler.send(left if len(handler.server_.asked) > 1 else left[:200_000])


def truncating(handler, content):
    handler.send(handler.start(content, resumes=False)[:100_000])


def breaking(handler, content):
    """Breaks off after every 70,000 bytes, and continues."""
    handler.send(handler.start(content)[:70_000])


def stalling(handler, content):
    handler.send(handler.start(content)[:100_000])
    handler.server_.released.wait(20)


def silent(handler, content):
    handler.server_.released.wait(20)


def slow(handler, content):
    left = handler.start(content)
    for at in range(0, len(left), 50_000):
        handler.send(left[at : at + 50_000])
        time.sleep(0.02)


def status(code):
    return lambda handler, content: handler.send_error(code)


def busy(handler, content):
    """Is overloaded at first."""
    handler.send_error(503) if len(handler.server_.asked) < 3 else good(handler, content)


def page(handler, content):
    handler.head(200, Content_Type="text/html", Content_Length=len(PAGE))
    handler.send(PAGE)


def endless_page(handler, content):
    """Does not say how long it is."""
    handler.head(200, Content_Type="text/html")
    handler.send(PAGE)


def wrong(handler, content):
    handler.send(handler.start(bytes(len(content))))


def loop(handler, content):
    handler.head(302, Location=handler.path)


def to(address):
    return lambda handler, content: handler.head(302, Location=address + handler.path.lstrip("/"))


@pytest.fixture
def serve():
    """Starts servers."""
    servers = []

    def start(behave=good, content=CONTENT) -> Server:
        servers.append(Server(behave, content))
        return servers[-1]

    yield start
    for server in servers:
        server.released.set()
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """A cache and a home of its own, no proxy, and little patience."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")] + ["SNNJAX_MIRROR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "WAIT", 0.01)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "folder"


def closed() -> str:
    """An address that nobody answers at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def published(*servers, content=CONTENT, members=()) -> Published:
    return Published("set", tuple(getattr(each, "address", each) for each in servers), files_of(content, members))


def whole(folder) -> bool:
    """Whether a folder holds the right files, and nothing else."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


BAD = {
    "404": (status(404), "HTTP 404 Not Found", 1),
    "500": (status(500), "HTTP 500 Internal Server Error", 3),
    "page": (page, f"it offers {len(PAGE)} bytes, not 300000", 1),
    "endless page": (endless_page, f"it ended after {len(PAGE)} of 300000 bytes", 1),
    "wrong": (wrong, "its SHA-256 is not that of the published file", 1),
    "truncating": (truncating, "it ended after 100000 of 300000 bytes", 4),
    "silent": (silent, "it sent nothing for 0.3 s", 3),
    "loop": (loop, "HTTP 302 The HTTP server returned a redirect error", 5),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_is_named_and_the_next_one_taken(serve, folder, kind):
    behave, reason, asked = BAD[kind]
    bad, other = serve(behave), serve()
    with pytest.raises(DownloadError) as caught:
        bring(published(bad), folder)
    assert str(caught.value).startswith(f"one.gz from {bad.address} ({reason}")
    assert "\n" not in str(caught.value)
    assert len(bad.asked) == asked
    assert not {path.name for path in folder.iterdir()} - {".one.gz.part"}
    bring(published(bad, other), folder)
    assert whole(folder)
    assert [path for path, _ in other.asked].count("/one.gz") == 1, "a page is not continued"


def test_files_at_hand_are_not_asked_for(serve, folder):
    server = serve()
    bring(published(server), folder)
    assert server.asked == [("/one.gz", None), ("/two.gz", None)]
    (folder / "two.gz").unlink()
    bring(published(server), folder)
    assert server.asked[2:] == [("/two.gz", None)]
    bring(published(closed()), folder)
    assert whole(folder)


@pytest.mark.parametrize(("behave", "asked"), [(stalling, 4), (breaking, 6)])
def test_a_broken_download_is_continued(serve, folder, behave, asked):
    server = serve(behave)
    bring(published(server), folder)
    assert whole(folder)
    assert len(server.asked) == asked, "more often than a server that gives nothing is asked"
    assert server.sent < 2 * 300_000
    assert server.asked[1][1].startswith("bytes=")


def test_a_server_that_cannot_continue_begins_again(serve, folder):
    server = serve(forgetful)
    bring(published(server), folder)
    assert whole(folder)
    assert sent(server, 200_000 + 300_000 + 1_000)


def test_a_busy_server_is_asked_again(serve, folder):
    server = serve(busy)
    bring(published(server), folder)
    assert whole(folder)
    assert len(server.asked) == 4


def test_redirections_are_followed(serve, folder):
    other = serve()
    bring(published(serve(to(other.address))), folder)
    assert whole(folder)


@pytest.mark.parametrize("size", [1, 150_000, 300_000, 300_001])
def test_what_another_program_left_is_not_trusted(serve, folder, size):
    folder.mkdir()
    (folder / ".one.gz.part").write_bytes(b"x" * size)
    (folder / ".one.gz.0123abcd.gz").write_bytes(b"half of it")
    bring(published(serve()), folder)
    assert whole(folder)


CHILD = """
import sys
from snnjax.data.catalogue import File, Published
from snnjax.data.download import download
from pathlib import Path
download({published!r}, Path({folder!r}))
"""


def child(table: Published, folder: pathlib.Path) -> subprocess.Popen:
    code = CHILD.format(published=table, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_killed_process_leaves_the_lock_and_what_it_had(serve, folder):
    """Meanwhile another one waits."""
    hanging, server, said = serve(stalling), serve(), []

    def wait():
        bring(published(server), folder, progress=lambda *each: said.append(each))

    other = child(published(hanging), folder)
    part = folder / ".one.gz.part"
    until(lambda: part.exists() and part.stat().st_size)
    waiting = threading.Thread(
        target=lambda: bring(published(server), folder, progress=lambda *each: said.append(each))
    )
    waiting.start()
    until(lambda: said)
    assert said[0] == ("waiting for another download", 0, 301_000)
    assert not server.asked
    assert {path.name for path in folder.iterdir()} == {".lock", part.name}, "nothing that looks like a file of the set"
    had = part.stat().st_size
    other.send_signal(signal.SIGKILL)
    other.communicate()
    waiting.join()
    assert whole(folder)
    assert server.asked[0] == ("/one.gz", f"bytes={had}-")
    assert sent(server, 301_000 - had)


def test_two_processes_download_once(serve, folder):
    server = serve(slow)
    other = child(published(server), folder)
    until(lambda: server.asked)
    bring(published(server), folder)
    assert (other.wait(), other.communicate()[0]) == (0, b"")
    assert whole(folder)
    assert [path for path, _ in server.asked] == ["/one.gz", "/two.gz"]


def test_many_threads_download_once(serve, folder):
    server = serve(slow)
    threads = [threading.Thread(target=bring, args=(published(server), folder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole(folder)
    assert [path for path, _ in server.asked] == ["/one.gz", "/two.gz"]


@pytest.mark.parametrize("named", ["argument", "variable"])
def test_a_mirror_of_ones_own_is_tried_first(serve, folder, monkeypatch, named):
    own, other = serve(), serve()
    address = own.address + "sets"
    if named == "variable":
        monkeypatch.setenv("SNNJAX_MIRROR", address)
    bring(published(other), folder, mirror=address if named == "argument" else None)
    assert whole(folder)
    assert [path for path, _ in own.asked] == ["/sets/set/one.gz", "/sets/set/two.gz"]
    assert not other.asked


def test_a_mirror_may_be_a_folder(folder, tmp_path):
    (tmp_path / "share" / "set").mkdir(parents=True)
    for name, content in CONTENT.items():
        (tmp_path / "share" / "set" / name).write_bytes(content)
    bring(published(closed()), folder, mirror=(tmp_path / "share").as_uri())
    assert whole(folder)
    with pytest.raises(InputError, match=re.escape("`mirror` (SNNJAX_MIRROR) must begin with https://")):
        bring(published(closed()), folder, mirror="share/set")


def test_progress(serve, folder, capfd):
    said = []
    bring(published(serve()), folder, progress=lambda *each: said.append(each))
    assert [each[::2] for each in said if each[1] == each[2]] == [("one.gz", 300_000), ("two.gz", 1_000)]
    assert said == sorted(said)
    assert len(said) > 3
    (folder / "one.gz").unlink()
    bring(published(serve()), folder)
    assert capfd.readouterr() == ("", ""), "bars are for terminals"


def test_bars_on_a_terminal(serve, folder, monkeypatch):
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        bring(published(serve()), folder)
        terminal.flush()
        shown = b"".join(iter(lambda: screen.read(100_000), None)).decode()
    assert "one.gz" in shown
    assert "300k/300k" in shown


def zipped(entries: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return raw.getvalue()


def tarred(entries: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


OTHERS = {"../evil": b"1", "/tmp/evil": b"2", "in/other": b"3", "one": b"4", "in/../../evil": b"5"}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_of_archives_only_the_wanted_is_written(serve, folder, pack):
    content = {"all": pack(OTHERS | {"in/one": b"one", "in/two": b"two" * 99_999})}
    server = serve(content=content)
    table = published(server, content=content, members=("in/one", "in/two"))
    for _ in range(2):
        bring(table, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"one": b"one", "two": b"two" * 99_999}
    assert not [*folder.parent.rglob("*evil*")]
    assert len(server.asked) == 1


def test_a_break_while_extracting_is_made_good(serve, folder, monkeypatch):
    content = {"all": zipped({"in/one": b"one", "in/two": b"two"})}
    server = serve(content=content)
    table = published(server, content=content, members=("in/one", "in/two"))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left on device") as caught:
            bring(table, folder)
    assert not isinstance(caught.value, DownloadError)
    assert [path.name for path in folder.iterdir()] == [".all.part"]
    bring(table, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"one": b"one", "two": b"two"}
    assert len(server.asked) == 1


def test_an_archive_left_after_extraction_is_removed(serve, folder):
    content = {"all": zipped({"in/one": b"one"})}
    server = serve(content=content)
    table = published(server, content=content, members=("in/one",))
    bring(table, folder)
    (folder / ".all.part").write_bytes(content["all"])  # as if killed just before its removal
    bring(table, folder)
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert len(server.asked) == 1


SETS = {
    "mnist": {f"{name}.gz": gzip.compress(idx(array), mtime=0) for name, array in FILES.items()},
    "emnist_letters": {
        "gzip.zip": zipped(
            {
                f"gzip/emnist-{split}-{part}-{kind}-ubyte.gz": gzip.compress(idx(array), mtime=0)
                for split, count in dict(digits=10, letters=26, balanced=47, byclass=7).items()
                for part in ("train", "test")
                for kind, array in {
                    "images-idx3": RNG.integers(0, 256, (count, 5, 4), np.uint8),
                    "labels-idx1": np.arange(count, dtype=np.uint8) + np.uint8(split == "letters"),
                }.items()
            }
        )
    },
    "cifar10": {"cifar-10-binary.tar.gz": tarred({f"cifar-10-batches-bin/{n}": each[0] for n, each in CIFAR.items()})},
}


def small(monkeypatch, name: str, *servers: Server | str) -> Published:
    """Lets a set of the catalogue be a small one on a server."""
    real = CATALOGUE[name].published
    table = Published(
        real.folder,
        tuple(getattr(each, "address", each) for each in servers),
        tuple(file._replace(members=old.members) for file, old in zip(files_of(SETS[name]), real.files, strict=True)),
    )
    for each, entry in CATALOGUE.items():
        if entry.published is real:
            monkeypatch.setitem(CATALOGUE, each, entry._replace(published=table))
    return table


@pytest.mark.parametrize("name", SETS)
def test_a_set_downloads_itself(serve, monkeypatch, tmp_path, name):
    server = serve(content=SETS[name])
    table = small(monkeypatch, name, server)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # it is not even imported
    assert find(name).kind == "absent"
    data = load(name)
    folder = tmp_path / "cache" / "snnjax" / "data" / table.folder
    assert find(name) == ("cache", folder)
    again = load(name, folder)
    np.testing.assert_array_equal(data.train_images, again.train_images)
    assert (data.name, len(data.test_images)) == (name, dict(mnist=7, emnist_letters=26, cifar10=3)[name])
    assert data.digest == load(name).digest
    assert len(server.asked) == len(table.files)
    assert fetch(name) == folder


def test_the_sets_of_one_archive_come_together(serve, monkeypatch):
    server = serve(content=SETS["emnist_letters"])
    small(monkeypatch, "emnist_letters", server)
    for name in ("emnist_letters", "emnist_digits", "emnist_balanced"):
        assert load(name).name == name
    assert len(server.asked) == 1


def test_offline_there_is_one_line(monkeypatch):
    address = closed()
    small(monkeypatch, "mnist", address, "http://127.0.0.1:1/")
    monkeypatch.setattr(download, "WAIT", 2)
    begin = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        load("mnist")
    assert time.monotonic() - begin < 1
    message = str(caught.value)
    assert "\n" not in message
    start = f"mnist cannot be downloaded: train-images-idx3-ubyte.gz from {address} (Connection refused), http://127.0."
    assert message.startswith(start)
    for hint in ("`data_dir` (--data_dir)", "t10k-labels-idx1-ubyte", "Try again"):
        assert hint in message


def test_without_a_cache_there_is_one_line(serve, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find("mnist").kind == "absent"
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        load("mnist")


def test_a_damaged_cache_is_named(serve, monkeypatch):
    small(monkeypatch, "mnist", serve(content=SETS["mnist"]))
    folder = fetch("mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    message = f"{path} is truncated or damaged.*: remove {folder}, and the set is downloaded again"
    with pytest.raises(InputError, match=message):
        load("mnist")


@pytest.mark.parametrize("name", DATASETS)
def test_sets_are_described(name):
    about = CATALOGUE[name]
    assert find(name).kind == ("built in" if name == "digits" else "absent")
    assert len(about.class_names) in (0, about.classes)
    if name == "digits":
        data = load(name)
        counts = len(data.train_images), len(data.test_images), data.train_images.shape[1:], data.classes
        assert counts == (about.train_images, about.test_images, about.shape, about.classes)


def test_what_is_no_set_is_neither_found_nor_downloaded():
    for function in (find, fetch):
        with pytest.raises(InputError, match=r"`dataset` must be one of digits, .*, got 'cifar'"):
            function("cifar")
    with pytest.raises(InputError, match="digits needs no download"):
        fetch("digits")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist", "cifar10"])
def test_sizes_and_checksums_are_those_that_tensorflow_datasets_knows(name):
    path = importlib.resources.files("tensorflow_datasets") / "url_checksums" / f"{name}.txt"
    known = [line.split("\t") for line in path.read_text().splitlines()]
    table = next(each.published for each in CATALOGUE.values() if each.published and each.published.folder == name)
    assert {(file.name, file.size, file.sha256) for file in table.files} == {(n, int(s), d) for _, s, d, n in known}
    addresses = {mirror + file.name for mirror in table.mirrors for file in table.files}
    assert {url for url, *_ in known} <= addresses
    assert all(mirror.endswith("/") for mirror in table.mirrors)
