"""`snnjax export`: writes a trained network for simulators, chips and microcontrollers."""

from pathlib import Path

from snnjax.app import options, parts
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.interop import c, nir
from snnjax.runs.trained import Trained


def run(chosen: options.Export) -> None:
    """Writes the files, and says what they are."""
    trained = Trained.read(chosen.run)
    chosen.out.mkdir(parents=True, exist_ok=True)
    to_c(trained, chosen) if chosen.to == "c" else to_nir(trained, chosen)


def to_nir(trained: Trained, chosen: options.Export) -> None:
    """Writes NETWORK.nir."""
    path = chosen.out / f"{trained.network.name}.nir"
    parts.check_new(path)
    note = nir.write(trained.spiking_network(), path, chosen.neuron)
    told(path, "the network, and how to read it in its metadata, `recipe`")
    if note:
        print(note)


def to_c(trained: Trained, chosen: options.Export) -> None:
    """Writes NETWORK.c and NETWORK.h."""
    program = c.program(trained.spiking_network(), chosen.bits, trained.image_shape)
    source = chosen.out / f"{program.name}.c"
    header = chosen.out / f"{program.name}.h"
    for path in (source, header):
        parts.check_new(path)
    files.write_text(source, program.source)
    files.write_text(header, program.header)
    told(source, f"C99, weights of {chosen.bits} bits; {header.name} declares what it does")
    main = f"-D{program.name.upper()}_MAIN"
    print(f"cc -std=c99 -O2 {main} {printable(str(source))} makes a program that reads images from its standard input.")


def told(path: Path, what: str) -> None:
    """Prints what a file holds."""
    print(f"{printable(str(path))}: {what}")
