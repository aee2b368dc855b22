"""The graph of a network's stages, each of which reads outputs of earlier stages, so that they are computed in order.

Outputs are numbered: 0 is the encoded image, and n the output of the n-th stage, counted from 1. Stages are counted
from 0, so that by default, stage n reads output n. The number after the last stage stands for a decision that is fitted
to the output of the last stage.
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
    """The known latencies of an image, from which further stages are computed.

    Attributes:
      outputs: (F, H, W) latencies, keyed by the number of the output: 0 is the encoded image, 1 the output of the first
        stage.
      inputs: (C, H, W) latencies, the joined inputs of stages, keyed by the number of the stage, from 0.

    Examples:
      >>> import snnjax
      >>> from snnjax.networks import Activations
      >>> model = snnjax.load("pretrained:goupy2024_ncg_mnist").model
      >>> latency = model.encode(snnjax.data.digits().test_images[0])
      >>> model.input_of(1, Activations({0: latency})).shape  # what the second stage reads
      (128, 6, 6)
    """

    outputs: dict[int, Any] = {}  # noqa: RUF012, nobody changes it
    inputs: dict[int, Any] = {}  # noqa: RUF012


class ComputePlan(NamedTuple):
    """The stages to compute, and the known outputs that are needed.

    Attributes:
      stages: numbers of the stages to compute, from 0.
      outputs: numbers of the known outputs from which the stages are computed.
    """

    stages: set[int]
    outputs: set[int]


class Graph(NamedTuple):
    """The stages of a network, and the outputs that they read.

    Attributes:
      stages: the stages of the network, in order.
    """

    stages: tuple[Stage, ...]

    def reads(self, number: int) -> tuple[tuple[int, Input], ...]:
        """The number of each output that stage `number` reads, with the `Input` that says how it is read."""
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
        """The numbers, up to `most`, of the outputs from which the given stages are computed."""
        sources = [output for stage in stages for output in self.sources(stage)]
        return tuple(sorted(self.path_to(sources, range(most + 1)).outputs))

    def outputs_entering(self, first: int, last: int) -> tuple[int, ...]:
        """The numbers of the outputs from which stages `first` to `last` are computed.

        They are () if the joined input of stage `first` is enough.
        """
        later = {output for stage in range(first + 1, last + 1) for output in self.sources(stage)}
        if all(output > first for output in later):
            return ()
        return self.outputs_for(range(first, last + 1), first)

    def path_to(self, wanted: Collection[int], outputs: Collection[int], inputs: Collection[int] = ()) -> "ComputePlan":
        """The plan for computing the `wanted` outputs from known `outputs` and `inputs`, all given by their numbers.

        Raises InputError if the known ones are not enough.
        """
        stages: set[int] = set()
        reached = {*wanted}
        for number in range(max(reached, default=0), 0, -1):  # later outputs first, because they need earlier ones
            if number not in reached or number in outputs:
                continue
            stages.add(number - 1)
            if number - 1 not in inputs:
                reached |= {*self.sources(number - 1)}
        if 0 in reached and 0 not in outputs:
            raise InputError("`known` must have output 0, the encoded image, or else all that is computed from it")
        return ComputePlan(stages, reached & {*outputs})

    def input_shape(self, number: int, outputs: Sequence[Shape], time_steps: int) -> Shape:
        """The shape (C, H, W) of the joined input of stage `number`, given the shapes of all earlier `outputs`."""
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
        """The shape (C, H, W) of each input that stage `number` joins."""
        shapes: list[Shape] = []
        for output, each in self.reads(number):
            channels, rows, columns = outputs[output]
            size = each.pool.output_size((rows, columns)) if each.pool else (rows, columns)
            shapes.append((channels, *size))
        return shapes


def name_of(output: int) -> str:
    """The name of an output, as used in the inputs of stages."""
    return f"stage{output}" if output else ENCODER


def number_of(name: str) -> int:
    """The number of the output with this name; raises ValueError if it is not the name of an output."""
    return 0 if name == ENCODER else int(name.removeprefix("stage"))


def check(network: str, stages: tuple[Stage, ...]) -> None:
    """Raises InputError unless all stages read outputs of earlier stages, and each stage is read by a later one."""
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
    """Raises InputError if a stage reads an output twice, or has a join without effect because it reads only one."""
    stage = graph.stages[number]
    checks.distinct(f"inputs of stage {number + 1} of {network}", stage.inputs)
    if len(stage.inputs) < 2 and isinstance(stage.join, EarliestSpike | LatestSpike):
        name = type(stage.join).__name__
        raise InputError(f"`join` of stage {number + 1} of {network} reads a single input: {name} has no effect")
