"""Many networks of one kind trained at once, in one program: other seeds, other hyperparameters.

What differs from network to network are arrays, so that nothing is compiled for each. On a CPU the networks are spread
over the cores and each core trains one after the other; on an accelerator all of them learn side by side.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from snnjax import devices
from snnjax.data import Dataset
from snnjax.errors import InputError
from snnjax.layers import Conv
from snnjax.metrics import fractions
from snnjax.networks import Network, SpikingNetwork, draw
from snnjax.training import progress, reward
from snnjax.training.trainer import (
    BLOCK,
    CHUNK,
    Batched,
    Clock,
    Listener,
    Phase,
    Settings,
    Trainer,
    each_device_takes,
    encoding,
    judge,
    judge_state,
)
from snnjax.training.unsupervised import change, stdp_epoch

Variant = Mapping[str, float]
"""What is special about a network: "seed", and hyperparameters by layer, such as "layer1.threshold"."""
Values = dict[str, Any]
"""Arrays by name: those that each network has of its own have an axis of networks in front."""

STDP_PARAMETERS = ("threshold", "winners", "radius", "ltp", "ltd")
REWARD_PARAMETERS = ("reward_ltp", "reward_ltd", "punish_ltp", "punish_ltd")
WHOLE = ("seed", "winners", "radius")
"""Those that are integers."""


def parameters(spec: Network) -> dict[str, float]:
    """All that may vary, by name, with the values that the network has.

    Of layers that come before all learning by reward, what STDP needs; of those that learn by reward, the rates.
    """
    found: dict[str, float] = {"seed": 0}
    for number, name, layer in spec.layers():
        if layer.stdp is not None and number < spec.first_rewarded:
            values = dict(threshold=layer.threshold, winners=layer.winners, radius=layer.radius)
            values |= dict(ltp=layer.stdp.ltp, ltd=layer.stdp.ltd)
        elif layer.rstdp is not None:
            values = dict(zip(REWARD_PARAMETERS, (*layer.rstdp.reward, *layer.rstdp.punish), strict=True))
        else:
            values = {}
        found |= {f"{name}.{key}": value for key, value in values.items() if value is not None}
    return found


def check(spec: Network, variant: Variant) -> None:
    """Checks names and values of a variant.

    Raises:
      ValueError: something that cannot vary, or a value that it cannot have.
    """
    known = parameters(spec)
    for name, value in variant.items():
        if name not in known:
            raise InputError(f"`vary` must name some of {', '.join(known)}, got {name!r}")
        kind = name.split(".")[-1]
        if not np.isfinite(value) or (kind in ("threshold", "ltp") and value <= 0):
            raise InputError(f"`{name}` must be a number{' above 0' * (kind in ('threshold', 'ltp'))}, got {value:g}")
        if kind in WHOLE and (value != int(value) or value < (kind == "winners")):
            raise InputError(f"`{name}` must be an integer of at least {int(kind == 'winners')}, got {value:g}")


def plain(spec: Network, variant: Variant) -> Network:
    """A variant as a network of its own, without arrays."""

    def changed(name: str, layer: Conv) -> Conv:
        own: dict[str, Any] = {key.split(".")[1]: value for key, value in variant.items() if key.startswith(f"{name}.")}
        own |= {key: int(value) for key, value in own.items() if key in WHOLE}
        rule: dict[str, Any] = {key: own.pop(key) for key in ("ltp", "ltd") if key in own}
        rates = {key: own.pop(key) for key in REWARD_PARAMETERS if key in own}
        if rule and layer.stdp is not None:
            own["stdp"] = dataclasses.replace(layer.stdp, **rule)
        if rates and layer.rstdp is not None:
            all_rates = dict(zip(REWARD_PARAMETERS, (*layer.rstdp.reward, *layer.rstdp.punish), strict=True)) | rates
            first, second, third, fourth = all_rates.values()
            own["rstdp"] = dataclasses.replace(layer.rstdp, reward=(first, second), punish=(third, fourth))
        return dataclasses.replace(layer, **own)

    layers = {name: changed(name, layer) for _, name, layer in spec.layers()}
    stages = []
    for number, stage in enumerate(spec.stages):
        names = [name for at, name, _ in spec.layers() if at == number]
        stages.append(dataclasses.replace(stage, branches=tuple(layers[name] for name in names)))
    return dataclasses.replace(spec, stages=tuple(stages))


class Sweep:
    """Trains variants of a network together, as `Trainer` trains each alone: the same bit for bit on a CPU, but for the
    rounding of rates where ltp or ltd vary.

    Args:
      spec: what the variants have in common.
      data: learned from and tested with.
      settings: common settings; the seeds are the variants' own, and all epochs are done.
      variants: what is special about each.
      listener: hears of the training's course.

    Raises:
      ValueError: they do not fit together.
    """

    def __init__(
        self,
        spec: Network,
        data: Dataset,
        settings: Settings,
        variants: Sequence[Variant],
        listener: Listener | None = None,
    ):
        if not variants:
            raise InputError("`variants` must hold at least one")
        for variant in variants:
            check(spec, variant)
        if settings.update_batch != 1:
            raise InputError(f"`update_batch` must be 1 in a sweep, got {settings.update_batch}")
        self.trainer = Trainer(spec, data, settings)
        self.listener = listener or Listener()
        self.phases: list[dict[str, Any]] = []
        self.mesh = devices.peers(len(variants))
        self.count = len(variants)
        # Each device has as many to train: the last one is trained again where they do not come out even.
        self.variants = [*variants, *[variants[-1]] * (-len(variants) % self.mesh.size)]
        defaults, names = parameters(spec), {name for variant in variants for name in variant} - {"seed"}
        self.values = {name: np.array([each.get(name, defaults[name]) for each in self.variants]) for name in names}
        most = {name: max(values) for name, values in self.values.items() if name.endswith(".winners")}
        self.spec = plain(spec, most)

    def run(self) -> list[dict[str, Any]]:
        """Trains all to the end.

        Returns:
          For each variant: variant, epochs (train and test, each accuracy, wrong and silent) and weights by name.
        """
        with progress.listening(self.listener.advanced):
            return self._run()

    def _run(self) -> list[dict[str, Any]]:
        spec, native = self.spec, self.trainer.settings.native
        networks = [draw(spec, int(each.get("seed", 0)), native=native) for each in self.variants]
        self.graphdef = nnx.graphdef(networks[0])
        own: Values = dict(states=_stacked([nnx.state(network) for network in networks]), changes=self._changes())
        train, test = self._encode()
        inputs: Values = dict(inputs=train)  # shared by all, until a stage has made each network's own
        plan, last, at = self.trainer.plan, len(spec.stages) - 1, 0
        for phase in plan[:-1]:
            while at < phase.stage:
                at, inputs = at + 1, dict(inputs=self._outputs(at, own, inputs))
            own["states"] = self._stdp(phase, own, inputs)
        first = plan[-1].stage
        while at < min(first, last - 1):
            at, inputs = at + 1, dict(inputs=self._outputs(at, own, inputs))
        tests: Values = dict(inputs=test)
        if first == last:
            inputs = dict(inputs=self._fired(at, own, inputs))
            tests = dict(inputs=self._fired(0, own, tests))
        for number in range(first if first < last else 0):
            tests = dict(inputs=self._outputs(number, own, tests))
        return self._reward(own, inputs, dict(tests=tests["inputs"]))

    def _changes(self) -> dict[str, dict[str, jax.Array]]:
        """The hyperparameters of STDP layers: by layer and name, (N,)."""
        changes: dict[str, dict[str, jax.Array]] = {}
        for name, values in self.values.items():
            layer, key = name.split(".")
            if key in STDP_PARAMETERS:
                dtype = jnp.int32 if key in WHOLE else jnp.float32
                changes.setdefault(layer, {})[key] = jnp.asarray(values, dtype)
        return changes

    def _base(self) -> jax.Array:
        """The rates that those of the reward phase derive from, (N, L, 2, 2)."""
        rates = np.array(reward.base_rates(self.spec))[None].repeat(len(self.variants), 0)
        for index, layer in enumerate(reward.rewarded(self.spec)):
            for place, key in enumerate(REWARD_PARAMETERS):
                if (values := self.values.get(f"{layer}.{key}")) is not None:
                    rates[:, index, place // 2, place % 2] = values
        return jnp.asarray(rates)

    def _encode(self) -> list[np.ndarray]:
        clock, sets = Clock("encode"), [self.trainer.data.train_images, self.trainer.data.test_images]
        self.listener.started(clock.name, sum(map(len, sets)))
        run = Batched(encoding(self.trainer.encoder, self.trainer.settings.native), None, sets[0], clock)
        encoded = [run(None, images) for images in sets]
        self._finished(clock)
        return encoded

    def _finished(self, clock: Clock) -> None:
        self.phases.append(clock.record())
        self.listener.finished(self.phases[-1])

    def _compiled(self, clock: Clock, function: Callable[[Values], Any], own: Values, shared: Values) -> Any:
        """A function of one network's values, `own` and `shared`, over all networks."""

        def of_device(own: Values, shared: Values) -> Any:
            return devices.map_images(lambda one: function({**shared, **one}), own)

        everywhere, apart = PartitionSpec(), PartitionSpec("images")
        spread = jax.shard_map(
            of_device, mesh=self.mesh, in_specs=(apart, everywhere), out_specs=apart, check_vma=False
        )
        places = tuple(NamedSharding(self.mesh, spec) for spec in (apart, everywhere))
        compiled = clock.compile(jax.jit(spread), *jax.device_put((own, shared), places))
        return lambda own, shared: compiled(*jax.device_put((own, shared), places))

    def _network(self, values: Values) -> SpikingNetwork:
        network = nnx.merge(self.graphdef, values["states"])
        for layer, changes in values["changes"].items():
            change(getattr(network, layer), changes)
        return network

    def _map(self, name: str, function: Callable[..., Any], own: Values, inputs: Values) -> jax.Array:
        """A phase of its own: `function` of (network, image) over all images of all networks."""
        clock = Clock(name)
        given, shared = (own | inputs, {}) if _is_own(inputs) else (own, inputs)
        count = inputs["inputs"].shape[1 if _is_own(inputs) else 0] * len(self.variants)
        self.listener.started(name, count)

        def of_network(values: Values) -> jax.Array:
            network = self._network(values)
            return devices.map_images(functools.partial(function, network), values["inputs"])

        run = self._compiled(clock, of_network, given, shared)
        result = clock.run(count, run, given, shared)
        progress.tell(count)
        self._finished(clock)
        return result

    def _outputs(self, number: int, own: Values, inputs: Values) -> jax.Array:
        name = f"outputs of stage {number + 1}"
        return self._map(name, lambda network, image: network.respond(number, image), own, inputs)

    def _fired(self, first: int, own: Values, inputs: Values) -> jax.Array:
        last = len(self.spec.stages) - 1
        return self._map(f"who fires in stage {last}", lambda n, image: n.reach(first, last, image), own, inputs)

    def _stdp(self, phase: Phase, own: Values, inputs: Values) -> Any:
        """All epochs of one layer: the new states."""
        images, clock = len(self.trainer.data.train_images), Clock(phase.name)
        shape = (*progress.split(images, 1), 1)
        rule = next(layer.stdp for _, name, layer in self.spec.layers() if name == phase.layer)
        assert rule is not None  # `plan` sees to it
        self.listener.started(phase.name, images * len(self.variants) * phase.epochs)

        def epoch(values: Values) -> nnx.State:
            network = nnx.merge(self.graphdef, values["states"])
            layer = getattr(network, phase.layer)
            valid = _folded(jnp.ones(images, bool), shape)
            changes = values["changes"].get(phase.layer, {})
            given = (values["number"], _folded(values["inputs"], shape), valid, changes)
            nnx.update(layer, stdp_epoch(*nnx.split(layer), *given)[0])
            return nnx.state(network)

        run, states = None, own["states"]
        for done in range(phase.epochs):
            number = jnp.int32(phase.branch * phase.epochs * images % rule.doubling + done * images)
            given, shared = _together(dict(own, states=states), inputs, dict(number=number))
            run = run or self._compiled(clock, epoch, given, shared)
            states = clock.run(images * len(self.variants), run, given, shared)
        self._finished(clock)
        return states

    def _reward(self, own: Values, inputs: Values, tests: Values) -> list[dict[str, Any]]:
        """All reward epochs, each followed by a test."""
        data, settings, phase = self.trainer.data, self.trainer.settings, self.trainer.plan[-1]
        images, clock, first = len(data.train_images), Clock(phase.name), phase.stage
        block = BLOCK if first == len(self.spec.stages) - 1 else 1
        shape = (*progress.split(images, block), block)
        chunk = each_device_takes(len(data.test_images), CHUNK, devices.peers().size)  # as alone: decides near-ties
        self.listener.started(phase.name, images * len(self.variants) * phase.epochs)

        def epoch(values: Values) -> Values:
            network = self._network(values)
            judged = judge(nnx.merge(self.graphdef, values["states"]), first)
            graphdef, weights, frozen = reward.split(nnx.merge(self.graphdef, values["states"]))
            state = dataclasses.replace(values["learning"], weights=weights)
            given = [_folded(x, shape) for x in (values["inputs"], values["labels"], jnp.ones(images, bool))]
            state, decisions = reward.reward_epoch(graphdef, state, frozen, *given, values["batch_size"])
            nnx.update(network, state.weights)
            tests = _folded(values["tests"], (-(-len(values["tests"]) // chunk), chunk))
            tested, _ = jax.lax.map(functools.partial(judged, judge_state(network)), tests)
            left = dataclasses.replace(state, weights=None)
            return dict(states=nnx.state(network), learning=left, decisions=decisions, tested=tested.ravel())

        base = self._base()
        zeros = (jnp.zeros(len(self.variants), jnp.int32) for _ in range(5))
        values: Values = dict(states=own["states"], learning=reward.RewardState(None, base, base, *zeros))
        labels = dict(labels=jnp.asarray(data.train_labels, jnp.int32), batch_size=jnp.int32(settings.batch_size))
        run: Any = None
        epochs: list[list[dict[str, Any]]] = [[] for _ in self.variants]
        for number in range(phase.epochs):
            given, shared = _together(own | values, inputs, labels)
            given, shared = _together(given, tests, shared)
            run = run or self._compiled(clock, epoch, given, shared)
            result = clock.run(images * len(self.variants), run, given, shared)
            values = dict(states=result["states"], learning=result["learning"])
            trained = np.asarray(result["decisions"])[:, :images]
            tested = np.asarray(result["tested"])[:, : len(data.test_images)]
            for each, ours, theirs in zip(epochs, trained, tested, strict=True):
                train, test = fractions(ours, data.train_labels), fractions(theirs, data.test_labels)
                each.append(dict(epoch=number, train=train, test=test))
            self.listener.tested(dict(epoch=number, **_mean([each[-1] for each in epochs[: self.count]])))
        self._finished(clock)
        results = []
        for at, variant in enumerate(self.variants[: self.count]):
            network = nnx.merge(self.graphdef, jax.tree.map(lambda x, at=at: x[at], values["states"]))
            weights = {name: np.asarray(value) for name, value in network.weights().items()}
            results.append(dict(variant=dict(variant), epochs=epochs[at], weights=weights))
        return results


def _together(own: Values, inputs: Values, shared: Values) -> tuple[Values, Values]:
    """Own and shared values with the inputs among them, which are own if they have an axis of networks."""
    return (own | inputs, shared) if _is_own(inputs) else (own, shared | inputs)


def _is_own(inputs: Values) -> bool:
    return next(iter(inputs.values())).ndim == 5  # networks, images, C, H, W


def _folded(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Pads the leading axis with zeros to fill `shape`, and folds it so."""
    missing = int(np.prod(shape)) - len(values)
    padded = jnp.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
    return padded.reshape(*shape, *values.shape[1:])


def _stacked(states: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _mean(records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean accuracies of all networks, in training and test."""
    return {
        part: dict(accuracy=float(np.mean([record[part]["accuracy"] for record in records])))
        for part in ("train", "test")
    }
