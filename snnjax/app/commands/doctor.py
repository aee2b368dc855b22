"""`snnjax doctor`: says which device, compiler, versions and data are available, and what is missing."""

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.markup import escape
from rich.table import Table

import snnjax
from snnjax import InputError, data, kernels
from snnjax.app import console, options
from snnjax.app.commands.data import at_hand
from snnjax.core import devices, files
from snnjax.kernels import backend
from snnjax.runs.results_file import versions

EXTRAS = {
    "tensorboard": ("tensorboardX", "`--tensorboard`"),
    "torch": ("torch", "weights to and from PyTorch's .pth files"),
    "events": ("tonic", "recordings of event cameras"),
    "cluster": ("distributed", "`snnjax sweep --scheduler`"),
    "nir": ("nir", "export to NIR"),
    "datasets": ("tensorflow_datasets", "data sets that tensorflow-datasets has prepared"),
    "native": ("ziglang", "a C++ compiler, if the system has none"),
    "docs": ("mkdocs", "the book as a site: `mkdocs build --strict -f experiments/mkdocs.yml`"),
}
"""The extras by name: a package that each of them installs, and its purpose."""

Line = tuple[str, bool | None, str]  # what is checked, whether it works (None: optional and absent), the result


def device() -> str:
    """The default device, after a test in which it runs a kernel; raises an error if the test fails."""
    begin = time.perf_counter()
    image = jnp.zeros((1, 3, 3), jnp.uint8)
    weights = jnp.ones((1, 1, 3, 3))
    fired = kernels.integrate_and_fire(image, weights, threshold=5, time_steps=2)
    if int(fired.latency[0, 0, 0]) != 0:
        raise OSError(f"a neuron with nine input spikes and a threshold of 5 does not fire: {fired}")
    took = time.perf_counter() - begin
    return f"{devices.name_of(devices.local_devices()[0])}; a kernel compiles and runs in {took:.1f} s"


def cache() -> str:
    """The cache folder and its size."""
    folder = files.cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {size / 1e6:,.0f} MB of compiled programs, kernels and data sets; may be deleted at any time"


CHECKS: dict[str, Callable[[], str]] = {
    "versions": lambda: ", ".join(f"{name} {version}" for name, version in versions().items()),
    "device": device,
    "cache folder": cache,
}


def findings() -> Iterator[Line]:
    """The results of all checks."""
    for name, check in CHECKS.items():
        try:
            yield name, True, check()
        except (OSError, RuntimeError, InputError) as error:
            yield name, False, " ".join(str(error).split())
    begin = time.perf_counter()
    if why := backend.unavailable():
        yield "back end", None, f"auto is xla: {why}"
    else:
        yield "back end", True, f"auto is native, which loads in {time.perf_counter() - begin:.1f} s"
    if all(x.platform == "cpu" for x in jax.devices()):
        card = "there is an NVIDIA card" if shutil.which("nvidia-smi") else "for an NVIDIA card"
        yield "accelerator", None, f"JAX sees none; {card}: pip install 'snnjax[cuda]'"
    for extra, (package, purpose) in EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        yield package, there or None, purpose if there else f"{purpose}: pip install 'snnjax[{extra}]'"
    for name in data.DATASETS:
        place = at_hand(name)
        if place == "absent":
            yield f"data: {name}", None, f"`snnjax data {name}` downloads it"
        else:
            yield f"data: {name}", True, place


MARKS = {True: "[green]ok[/]", False: "[red]FAILS[/]", None: "[yellow]absent[/]"}


def run(_: options.Doctor) -> None:
    """Prints a line for each check; the exit status is 1 if a required one fails."""
    shown = Table.grid(padding=(0, 2))
    failed = False
    for name, well, result in findings():
        shown.add_row(MARKS[well], name, escape(result))
        # None means that an optional part is absent, which is not a failure.
        failed |= well is False
    screen = console.screen()
    screen.print(f"[bold]snnjax {snnjax.__version__}[/] in {escape(str(Path(snnjax.__file__).parent))}")
    screen.print(shown, soft_wrap=False)
    if failed:
        raise SystemExit(1)
