"""`snnjax export`: writes a trained network for simulators, chips and microcontrollers."""

from pathlib import Path

from snnjax import InputError
from snnjax.app import lookup, options
from snnjax.core import checks, files
from snnjax.core.errors import printable, shown
from snnjax.export import c, nir
from snnjax.export.c import MOST_CLASSES, IntegerPrototypes, identifier, integer_prototypes
from snnjax.learners import Prototypes
from snnjax.networks import SpikingNetwork
from snnjax.networks.prototypes import PER_CLASS, prototypes_on
from snnjax.networks.quantisation import MAX_BITS
from snnjax.runs.trained import Trained

ALTERNATIVES = "folder (--out) or name (--name)"


def run(chosen: options.Export) -> None:
    """Writes the files, and prints what they contain."""
    if chosen.name is not None and chosen.name != identifier(chosen.name):
        raise InputError(
            f"`name` must begin with a letter, and have only ASCII letters, digits and _, got {shown(chosen.name)}"
        )
    lookup.import_all(chosen.modules)
    trained = Trained.read(chosen.run)
    if chosen.to == "c":
        to_c(trained, chosen)
    else:
        to_nir(trained, chosen)


def to_nir(trained: Trained, chosen: options.Export) -> None:
    """Writes the file NETWORK.nir."""
    checks.only_for("bits", chosen.bits, "--to c", f"NIR has weights of {nir.BITS} bits")
    checks.only_for("learn", chosen.learn or None, "--to c")
    neuron = chosen.neuron or "IF"
    network = trained.spiking_network()
    nir.to_nir(network, neuron)  # raises an error before a folder is made, if NIR cannot express the network
    path = chosen.out / f"{chosen.name or trained.network.name}.nir"
    chosen.out.mkdir(parents=True, exist_ok=True)
    files.check_new(path, ALTERNATIVES)
    note = nir.write(network, path, neuron)
    print_written(path, "the network, and how to read it in its metadata, `recipe`")
    if note:
        print(note)


def to_c(trained: Trained, chosen: options.Export) -> None:
    """Writes the files NETWORK.c and NETWORK.h."""
    checks.only_for("neuron", chosen.neuron, "--to nir")
    bits = MAX_BITS if chosen.bits is None else chosen.bits
    network, learning = with_learning(trained.spiking_network(), chosen)
    program = c.program(network, bits, trained.image_shape, name=chosen.name, learning=learning)
    source = chosen.out / f"{program.name}.c"
    header = chosen.out / f"{program.name}.h"
    chosen.out.mkdir(parents=True, exist_ok=True)
    for path in (source, header):
        files.check_new(path, ALTERNATIVES)
    files.write_text(source, program.source)
    files.write_text(header, program.header)
    print_written(source, f"C99, weights of {bits} bits; {header.name} declares what it does")
    print(f"Constants take {program.table_bytes:,} bytes, static memory {program.memory_bytes:,} bytes.")
    main = f"-D{program.name.upper()}_MAIN"
    print(f"This makes a program that reads images{', each with its class,' * chosen.learn} from its standard input:")
    print(f"cc -std=c99 -O3 {main} {printable(str(source))} -o {'learn' if chosen.learn else 'classify'}")


def with_learning(network: SpikingNetwork, chosen: options.Export) -> tuple[SpikingNetwork, IntegerPrototypes | None]:
    """The network to write and, with --learn, its readout that learns."""
    if not chosen.learn:
        for name in ("classes", "per_class"):
            checks.only_for(name, getattr(chosen, name), "--learn")
        return network, None
    description = network.network
    if chosen.classes is not None:
        checks.integer("classes", chosen.classes, 1, MOST_CLASSES)  # checked before memory is allocated for them
    rules = [type(conv.last_learner) for _, name, conv in description.layers() if name in description.deciding]
    replaced = rules != [Prototypes] or chosen.per_class is not None
    if replaced:
        neurons = PER_CLASS if chosen.per_class is None else chosen.per_class
        network = prototypes_on(network, None if description.classes else chosen.classes, per_class=neurons)
    learning = integer_prototypes(network, classes=chosen.classes)
    if replaced:
        print(f"The readout is replaced by an empty one, prototypes per class: {neurons}.")
    return network, learning


def print_written(path: Path, what: str) -> None:
    """Prints the name of a file and what it contains."""
    print(f"{printable(str(path))}: {what}")
