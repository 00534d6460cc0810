"""Torch modules as networks of agents and learners: what they are made of, before and without any population of them.

A ``Config`` of ``networks/`` either lists layers that run batched over all members, or builds a module. Of a module the
same list stands here, so that whoever reads layers need not care; but they cannot be rewritten.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from plasticbench.contracts.network import Role
from plasticbench.learning.kept import kept_bytes
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.module_layers import Convolution
from plasticbench.learning.module_parts import Part, layout
from plasticbench.learning.module_wiring import module_wiring
from plasticbench.plugins import did_you_mean
from plasticbench.settings import Settings

Inputs = Literal["numbers", "tokens"]

_EXAMPLE_ROWS = 2  # batch norm needs several
_PASS_OVERHEAD = 1.5  # that allocators and convolutions take beyond what a pass keeps
_OUTPUT_COPIES = 4  # side by side for all members, with the loss's logarithms, and the gradients of both


class Blueprint(list[LayerSpec]):
    """The parts of a module as layers, in the order of their registration; ``make`` builds another such module."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        roles: Mapping[str, Role],
        outputs: tuple[str, ...],
        is_random: bool,
        example: Callable[[torch.device], Tensor],
    ) -> None:
        self.make, self.is_random, self._example = make, is_random, example
        module = _quietly(make)
        self.parts = layout(module, _frozen(module), takes_unknown=True)
        self.outputs = _outputs(self.parts, outputs)
        self.roles = _roles(self.parts, self.outputs, roles)
        shapes = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        super().__init__(
            LayerSpec(part.name, self.roles[part.name], _shape(part, shapes[part.weight.tensor]), 1, "torch_default")
            for part in self.parts
            if shapes[part.weight.tensor].requires_grad
        )
        self.last_path = _last_path(module, self.parts, self.outputs)
        self.num_weights = sum(p.numel() for p in module.parameters())
        self.wires = module_wiring(module, self.parts)  # last, as a trace leaves marks in what it goes through

    @cached_property
    def row_bytes(self) -> int:
        """What a training pass takes of one row: what its gradient needs, and the outputs with those of its loss."""
        cpu = torch.device("cpu")
        with torch.random.fork_rng(devices=[]):
            try:
                # Chooses kernels as on a CPU, whose memory is that of those on a GPU; constants of a file are there.
                with FakeTensorMode(allow_non_fake_inputs=True):
                    kept, outputs = kept_bytes(self.make(), self._example(cpu))
            except Exception:  # whatever stops a module that cannot run without memory
                kept, outputs = kept_bytes(self.make(), self._example(cpu))
        return math.ceil((_PASS_OVERHEAD * kept + _OUTPUT_COPIES * outputs) / _EXAMPLE_ROWS)


def image_shape(obs_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width. Raises ``ValueError`` for inputs that are no images."""
    if len(obs_shape) != 3:
        raise ValueError(f"it reads images [channels, height, width], got inputs {list(obs_shape)}")
    channels, height, width = obs_shape
    return channels, height, width


class ModuleSettings(Settings):
    """Base of ``Config`` classes of networks that are modules: they say what to build, by ``module``."""

    __slots__ = ()
    inputs: ClassVar[Inputs] = "numbers"

    @abstractmethod
    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """A new module, by its own initialisation under torch's seed."""

    @property
    def is_random(self) -> bool:
        """Whether passes in training may draw from torch's chance, which then has to be the member's."""
        return False

    @property
    def told_roles(self) -> Mapping[str, Role]:
        """What layers are, where that differs from what is found."""
        return {}

    @property
    def told_outputs(self) -> tuple[str, ...]:
        """Names of the output layers; by default the last one that was registered."""
        return ()

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> Blueprint:
        """What the module consists of. Raises ``ValueError`` if it does not run, or its outputs are not as needed."""
        key = type(self), repr(self), obs_shape, num_outputs  # kinds may have settings of the same names
        if key not in _known:
            _examine(self, obs_shape, num_outputs)
            make = _maker(self, obs_shape, num_outputs)
            example = _examples(obs_shape, self.inputs == "tokens")
            blueprint = Blueprint(make, self.told_roles, self.told_outputs, self.is_random, example)
            _known[key] = blueprint
        return _known[key]


_known: dict[tuple[type, str, tuple[int, ...], int], Blueprint] = {}


def _maker(config: ModuleSettings, obs_shape: tuple[int, ...], num_outputs: int) -> Callable[[], nn.Module]:
    return lambda: config.module(obs_shape, num_outputs)


def _examples(obs_shape: tuple[int, ...], tokens: bool) -> Callable[[torch.device], Tensor]:
    return lambda device: torch.zeros(_EXAMPLE_ROWS, *obs_shape, device=device, dtype=_dtype(tokens))


def _quietly(make: Callable[[], nn.Module]) -> nn.Module:
    """A module without a trace in torch's chance; without memory, where it can be built so."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make()
        except (NotImplementedError, RuntimeError):
            return make()


def _frozen(module: nn.Module) -> frozenset[str]:
    return frozenset(name for name, parameter in module.named_parameters() if not parameter.requires_grad)


def _last_path(module: nn.Module, parts: list[Part], outputs: frozenset[str]) -> str:
    """The output layer, which has no part of its own where its weight is that of an embedding."""
    if outputs:
        return next(str(part.path) for part in parts if part.name in outputs)
    paths: list[str] = [path for path, layer in module.named_modules() if isinstance(layer, nn.Linear | Convolution)]
    return paths[-1]


def _shape(part: Part, tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(part.weight.view(tensor).shape)
    return (math.prod(shape),) if part.kind == "vector" else shape


def _outputs(parts: list[Part], wanted: tuple[str, ...]) -> frozenset[str]:
    matrices = [part for part in parts if part.kind == "matrix"]
    known = {part.path for part in matrices} | {part.name for part in matrices}
    for name in wanted:
        if name not in known:
            raise ValueError(f"outputs: no layer of weights is called {name!r}. {did_you_mean(name, known)}")
    return frozenset(p.name for p in matrices if (p.is_last if not wanted else {p.name, p.path} & set(wanted)))


def _roles(parts: list[Part], outputs: frozenset[str], told: Mapping[str, Role]) -> dict[str, Role]:
    """With convolutions linear layers are the head and all others the encoder; else the outputs are the head."""
    has_convolutions = any(isinstance(part.layer, Convolution) for part in parts)
    found: dict[str, Role] = {}
    for part in parts:
        is_head = isinstance(part.layer, nn.Linear | nn.Bilinear) if has_convolutions else part.name in outputs
        found[part.name] = "head" if is_head else "encoder"
    for name, role in told.items():
        if name not in found:
            raise ValueError(f"roles: no layer is called {name!r}. {did_you_mean(name, found)}")
        found[name] = role
    return found


# -- does it run? ----------------------------------------------------------------------------------------------------


def _examine(config: ModuleSettings, obs_shape: tuple[int, ...], num_outputs: int) -> None:
    """Runs it once. Raises ``ValueError`` for outputs of another shape, and for state that nobody would save."""
    made = _quietly(lambda: config.module(obs_shape, num_outputs))
    tokens = config.inputs == "tokens"
    example = _examples(obs_shape, tokens)
    wanted = (_EXAMPLE_ROWS, *obs_shape, num_outputs) if tokens else (_EXAMPLE_ROWS, num_outputs)
    device = next((p.device for p in made.parameters()), torch.device("cpu"))
    try:
        found, changed = _run(made, example(device))
    except (NotImplementedError, RuntimeError):  # a module that cannot run without memory
        with torch.random.fork_rng(devices=[]):
            made = config.module(obs_shape, num_outputs)
            try:
                found, changed = _run(made, example(torch.device("cpu")))
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                what = f"inputs {list(obs_shape)} with {num_outputs} outputs"
                raise ValueError(f"{type(made).__name__} does not run on {what}: {error}") from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != wanted:
        raise ValueError(
            f"{type(made).__name__} must give outputs {list(wanted[1:])} for each row of inputs {list(obs_shape)}, got "
            f"{list(shape[1:]) if isinstance(shape, tuple) else shape}"
        )
    if changed:
        raise ValueError(
            f"{type(made).__name__} keeps state in {changed}, which is neither a parameter nor a buffer, so that no "
            "checkpoint would hold it. Register it as a buffer"
        )


def _dtype(tokens: bool) -> torch.dtype:
    return torch.int64 if tokens else torch.get_default_dtype()


def _run(module: nn.Module, inputs: Tensor) -> tuple[Any, str | None]:
    """Outputs, and the name of an attribute that is not what it was before."""
    before = {path: _attributes(part) for path, part in module.named_modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = module(inputs)
    for path, part in module.named_modules():
        now = _attributes(part)
        for name in now.keys() | before[path].keys():
            if now.get(name) != before[path].get(name):
                return found, f"{path}.{name}".lstrip(".")
    return found, None


@cache
def _own_names() -> frozenset[str]:
    return frozenset(vars(nn.Module()))


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = {name: value for name, value in vars(module).items() if name not in _own_names()}
    return {name: _mark(value) for name, value in own.items()}


def _mark(value: Any) -> Any:
    """What shows whether a value was written or replaced."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, int | float | str | bool | None):
        return value
    if isinstance(value, list | dict | set | tuple):
        return type(value), len(value)
    return id(value)
