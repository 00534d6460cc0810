"""Texts, one mixture after another: a language model is told the next token at every position.

As nanoGPT (karpathy/nanoGPT) has them: ``train.bin`` and ``val.bin`` of uint16 tokens in a folder; or a text file,
whose characters are the tokens and whose last tenth is the validation. FIRE's language benchmark trains on WikiText-103
first, and then on OpenWebText with a little of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from plasticbench.contracts.learner import Population
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.envs._corpus import Corpus, corpora
from plasticbench.envs._phases import change_updates
from plasticbench.envs._supervised import SupervisedCourse, supervised_course
from plasticbench.envs._windows import TokenMaterial
from plasticbench.settings import MinLen, NonNegativeFloat, PositiveFloat, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``corpora``: folders of tokens, or text files. ``mixtures``: for each phase the weight of each corpus.

    Without ``mixtures`` each phase has one corpus, in their order. ``lengths`` of the phases are relative; by default
    equal. ``vocabulary``: by default the least that holds all tokens.
    """

    num_envs: ClassVar[int] = 1
    corpora: Annotated[tuple[str, ...], MinLen(1, "path")]
    mixtures: tuple[tuple[NonNegativeFloat, ...], ...] | None = None
    lengths: tuple[PositiveFloat, ...] | None = None
    context: PositiveInt = 64
    vocabulary: PositiveInt | None = None

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        for mixture in self.mixtures or ():
            if len(mixture) != len(self.corpora) or not sum(mixture):
                raise ValueError(
                    f"mixtures: each needs a weight for each of the {len(self.corpora)} corpora, not all 0, got "
                    f"{list(mixture)}"
                )
        if self.lengths is not None and len(self.lengths) != len(self._mixtures):
            raise ValueError(
                f"lengths: needs one for each of the {len(self._mixtures)} phases, got {list(self.lengths)}"
            )

    @property
    def _mixtures(self) -> tuple[tuple[float, ...], ...]:
        count = len(self.corpora)
        return self.mixtures or tuple(tuple(float(i == phase) for i in range(count)) for phase in range(count))

    @property
    def _loaded(self) -> tuple[tuple[Corpus, ...], int]:
        found, least = corpora(self.corpora, self.context)
        if self.vocabulary is not None and self.vocabulary < least:
            raise ValueError(f"vocabulary: must hold all tokens of the corpora, {least}, got {self.vocabulary}")
        return found, self.vocabulary or least

    @property
    def task(self) -> str:
        """The names of the corpora."""
        return "_".join(Path(path).stem for path in self.corpora)

    @property
    def spec(self) -> EnvSpec:
        """A context of tokens, and the vocabulary."""
        actions = DiscreteActions(count=self._loaded[1])
        return EnvSpec(obs_shape=(self.context,), obs_dtype="int64", actions=actions)

    @property
    def score_source(self) -> str:
        """What a score is."""
        return "0: a validation loss of ln(vocabulary), as guessing has; 1: a loss of 0"

    def score(self, value: float) -> float:
        """It comes as a score."""
        return value

    def change_steps(self, budget_steps: int) -> tuple[int, ...]:
        """Updates at which the phases after the first begin."""
        return change_updates(self.lengths or (1.0,) * len(self._mixtures), budget_steps)

    def build_course(self, population: Population) -> SupervisedCourse:
        """The phases of a population, and its learner in them."""
        found, vocabulary = self._loaded
        rows, seeds = population.agent.batch_rows, population.seeds
        material = TokenMaterial(found, self._mixtures, self.context, vocabulary, seeds, rows, population.device)
        return supervised_course(material, population, self.spec, self.change_steps(population.budget_steps))

    def build(self, seeds: Sequence[int], num_threads: int) -> Any:
        """Raises ``TypeError``: there is nothing to act in."""
        raise TypeError("texts are no environment to act in")
