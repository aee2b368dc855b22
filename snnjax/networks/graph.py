"""The graph of a network's stages: each reads outputs of earlier stages, so that they are computed in order.

Outputs have numbers: 0 is the encoded image, n the output of stage n, counted from 1. Stages are counted from 0: by
default stage n reads output n. The number after the last stage stands for a decision that is fitted to its output.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from snnjax.core import checks
from snnjax.core.errors import InputError, nearest
from snnjax.kernels.spikes import latency_dtype
from snnjax.networks.joins import Concatenate, EarliestSpike, LatestSpike
from snnjax.networks.stage import ENCODER, Input, Stage

Shape = tuple[int, int, int]


class Activations(NamedTuple):
    """What is known of an image, from which stages are computed.

    Attributes:
      outputs: (F, H, W) of stages, by number: 0 is the encoded image, 1 the output of the first stage.
      inputs: (C, H, W) that stages read, joined, by their number from 0.
    """

    outputs: dict[int, Any] = {}  # noqa: RUF012, nobody changes it
    inputs: dict[int, Any] = {}  # noqa: RUF012


class ComputePlan(NamedTuple):
    """Which stages to compute, and from which known outputs.

    Attributes:
      stages: numbers of the stages to compute, from 0.
      outputs: numbers of the known outputs from which they are computed.
    """

    stages: set[int]
    outputs: set[int]


class Graph(NamedTuple):
    """The stages of a network, with what they read.

    Attributes:
      stages: of the network.
    """

    stages: tuple[Stage, ...]

    def reads(self, number: int) -> tuple[tuple[int, Input], ...]:
        """What stage `number` reads: the number of each output, and how."""
        inputs = self.stages[number].inputs if number < len(self.stages) else ()
        return tuple((number_of(each.stage), each) for each in inputs) or ((number, Input(name_of(number))),)

    def sources(self, number: int) -> tuple[int, ...]:
        """The numbers of the outputs that stage `number` reads, in its order."""
        return tuple(output for output, _ in self.reads(number))

    def plain(self, number: int) -> bool:
        """Whether stage `number` reads a single output as it is."""
        ((_, first), *others) = self.reads(number)
        joined = number < len(self.stages) and type(self.stages[number].join) is not Concatenate
        return first.pool is None and not others and not joined

    def outputs_for(self, stages: Iterable[int], most: int) -> tuple[int, ...]:
        """The outputs, of numbers up to `most`, from which some stages are computed."""
        sources = [output for stage in stages for output in self.sources(stage)]
        return tuple(sorted(self.path_to(sources, range(most + 1)).outputs))

    def outputs_entering(self, first: int, last: int) -> tuple[int, ...]:
        """The outputs from which stages `first` to `last` are computed; () if the joined input of `first` is enough."""
        later = {output for stage in range(first + 1, last + 1) for output in self.sources(stage)}
        if all(output > first for output in later):
            return ()
        return self.outputs_for(range(first, last + 1), first)

    def path_to(self, wanted: Collection[int], outputs: Collection[int], inputs: Collection[int] = ()) -> "ComputePlan":
        """The path to the outputs wanted from the known `outputs` and `inputs`, of these numbers.

        Raises InputError if these are not enough.
        """
        stages: set[int] = set()
        reached = {*wanted}
        for number in range(max(reached, default=0), 0, -1):  # later outputs first: they need earlier ones
            if number not in reached or number in outputs:
                continue
            stages.add(number - 1)
            if number - 1 not in inputs:
                reached |= {*self.sources(number - 1)}
        if 0 in reached and 0 not in outputs:
            raise InputError("`known` must have output 0, the encoded image, or else all that is computed from it")
        return ComputePlan(stages, reached & {*outputs})

    def input_shape(self, number: int, outputs: Sequence[Shape], time_steps: int) -> Shape:
        """(C, H, W) of what stage `number` reads, given the shapes of all earlier `outputs`."""
        shapes = self.map_shapes(number, outputs)
        if self.plain(number):
            return shapes[0]
        maps = [jax.ShapeDtypeStruct(shape, latency_dtype(time_steps)) for shape in shapes]
        join = self.stages[number].join
        name = type(join).__name__
        try:
            joined = jax.eval_shape(lambda join, *x: join(*x, time_steps=time_steps), join, *maps)
        except InputError:
            raise
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            advice = "take jnp.where, or make the field static, as `name: int = static(default=1)`"
            raise InputError(f"`join` {name} must not choose by traced numbers or maps: {advice}") from error
        except (TypeError, ValueError, LookupError) as error:
            given = " and ".join(str(shape) for shape in shapes)
            raise InputError(f"`join` {name} does not take inputs of {given}: {error}") from error
        checks.instance("join(...)", joined, jax.ShapeDtypeStruct, "an array (C, H, W)")
        if joined.ndim != 3:
            raise InputError(f"`join` must make an input of (C, H, W), got {joined.shape}")
        checks.equal("dtype of join(...)", joined.dtype, maps[0].dtype, "that of its maps")
        return joined.shape

    def map_shapes(self, number: int, outputs: Sequence[Shape]) -> list[Shape]:
        """(C, H, W) of each of the maps that stage `number` joins."""
        shapes: list[Shape] = []
        for output, each in self.reads(number):
            channels, rows, columns = outputs[output]
            size = each.pool.output_size((rows, columns)) if each.pool else (rows, columns)
            shapes.append((channels, *size))
        return shapes


def name_of(output: int) -> str:
    """The name of an output, by which stages read it."""
    return f"stage{output}" if output else ENCODER


def number_of(name: str) -> int:
    """The number of the output of a name; raises ValueError if it is none."""
    return 0 if name == ENCODER else int(name.removeprefix("stage"))


def check(network: str, stages: tuple[Stage, ...]) -> None:
    """Raises InputError if stages read what is not there, what they cannot take, or where one is read by none."""
    graph = Graph(stages)
    names = [name_of(number) for number in range(len(stages) + 1)]
    for number, stage in enumerate(stages):
        title = f"`inputs` of stage {number + 1} of {network}"
        earlier = names[: number + 1]
        for source in stage.inputs:
            if source.stage in earlier:
                continue
            meant = nearest(source.stage, earlier)
            advice = f": did you mean {meant!r}?" if meant else ""
            if source.stage in names:
                advice = ": no cycles"
            raise InputError(f"{title} must be earlier stages ({', '.join(earlier)}), got {source.stage}{advice}")
        _check_reads(graph, number, network)
    read = {output for number in range(len(stages)) for output in graph.sources(number)}
    for number in range(1, len(stages)):
        if number not in read:
            raise InputError(f"stage {number} of {network} must be read by a later stage: it has no effect")


def _check_reads(graph: Graph, number: int, network: str) -> None:
    """Raises InputError if a stage reads an output twice, or joins a single one."""
    stage = graph.stages[number]
    checks.distinct(f"inputs of stage {number + 1} of {network}", stage.inputs)
    if len(stage.inputs) < 2 and isinstance(stage.join, EarliestSpike | LatestSpike):
        name = type(stage.join).__name__
        raise InputError(f"`join` of stage {number + 1} of {network} reads a single input: {name} has no effect")
