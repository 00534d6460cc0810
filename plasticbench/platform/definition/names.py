"""Names that people give, as parts of paths and ids; and what other libraries call our settings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_NAME_CHARACTERS = 100
"""Of a slug: a trial's id holds two, and file systems take names of 255 bytes."""

_ELSEWHERE = {
    "lr": ("learning_rate",),
    "gamma": ("discount",),
    "tau": ("target_tau",),
    "buffer_size": ("capacity_transitions",),
    "replay_size": ("capacity_transitions",),
    "batch_size": ("batch_rows", "minibatches"),
    "total_timesteps": ("budget_steps",),
    "total_steps": ("budget_steps",),
    "num_timesteps": ("budget_steps",),
    "learning_starts": ("learning_starts_steps",),
    "train_freq": ("update_period_steps", "replay_ratio"),
    "train_frequency": ("update_period_steps", "replay_ratio"),
    "gradient_steps": ("replay_ratio",),
    "utd_ratio": ("replay_ratio",),
    "target_update_interval": ("target_period_steps",),
    "target_network_frequency": ("target_period_steps",),
    "exploration_fraction": ("epsilon_decay_fraction",),
    "exploration_initial_eps": ("epsilon_start",),
    "exploration_final_eps": ("epsilon_end",),
    "start_e": ("epsilon_start",),
    "end_e": ("epsilon_end",),
    "max_grad_norm": ("max_gradient_norm",),
    "ent_coef": ("temperature_start", "entropy_coefficient"),
    "vf_coef": ("value_coefficient",),
    "clip_coef": ("ratio_clip",),
    "clip_range": ("ratio_clip",),
    "clip_range_vf": ("value_clip",),
    "clip_vloss": ("value_clip",),
    "norm_adv": ("advantage_norm",),
    "normalize_advantage": ("advantage_norm",),
    "anneal_lr": ("learning_rate_schedule",),
    "update_epochs": ("epochs",),
    "n_epochs": ("epochs",),
    "num_minibatches": ("minibatches",),
    "num_steps": ("rollout_steps",),
    "alpha": ("temperature_start",),
    "target_entropy": ("target_entropy_coefficient",),
    "policy_lr": ("learning_rate",),
    "q_lr": ("critic_learning_rate", "learning_rate"),
    "n_steps": ("n_step", "rollout_steps"),
    "policy_kwargs": ("network", "actor_network"),
    "net_arch": ("hidden",),
    "hidden_sizes": ("hidden",),
    "n_envs": ("num_envs",),
    "env": ("environments",),
    "env_id": ("task", "environments"),
    "seed": ("seeds",),
    "num_seeds": ("seeds",),
    "eval_freq": ("every_steps",),
    "n_eval_episodes": ("episodes",),
    "eval_episodes": ("episodes",),
    "frames": ("budget_steps",),
}
"""Names of stable-baselines3, CleanRL and their like, and ours, the nearest first."""
_MISPLACED = {
    "tuning_seeds": "`plasticbench run` tunes from a file; for anything else leave out 'tuning_seeds' and each 'tune'.",
    "tune": "It goes with 'tuning_seeds' at the top of the file.",
    "resets": "The top of the file has 'resets', for all methods; one with a schedule of its own says 'at', 'every' or "
    "'when' in its place, as in {kind: fire, at: [0.3]}.",
}
_HOMES = {
    "budget_steps": "budget_steps (agent steps), at the top of the file",
    "environments": "a list of environments, at the top of the file",
    "seeds": "seeds, at the top of the file",
    "num_envs": "environments.0.num_envs",
    "episodes": "evaluation.episodes",
    "every_steps": "evaluation.every_steps",
    "hidden": "agent.network.hidden",
}


def slug(name: str) -> str:
    """``name`` for paths and ids: lower-case letters, digits and dots, anything else a single hyphen.

    Letters of other scripts are spelled out: Greek ones by their names, a Chinese character by its number.
    """
    return re.sub(r"[^a-z0-9.]+", "-", _plain(name).lower()).strip("-.")


def folder_name(name: str) -> str:
    """``name`` for the default run directory: capitals and underscores stay."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", _plain(name))


def _plain(name: str) -> str:
    return name if name.isascii() else "".join(map(_spelled, unicodedata.normalize("NFKC", name)))


def _spelled(character: str) -> str:
    if character.isascii() or not character.isalnum():
        return character
    simple = unicodedata.normalize("NFKD", character.casefold() if len(character.casefold()) > 1 else character)
    if (letters := "".join(part for part in simple if part.isalnum())).isascii():
        return letters
    title = unicodedata.name(character, f"{ord(character):x}")
    word = re.sub(r".*\b(LETTER|DIGIT|SYLLABLE|IDEOGRAPH)[- ]|[- ]WITH .*", "", title)
    spelled = re.sub(r"[^A-Z0-9]+", "", word)
    return spelled if character.isupper() else spelled.lower()


def elsewhere(name: str, known: Sequence[str]) -> str | None:
    """A sentence if another library calls a setting so, or it stands elsewhere: what it is called here, or where."""
    if name in _MISPLACED:
        return _MISPLACED[name]
    ours = _ELSEWHERE.get(name, ())
    here = next((one for one in ours if one in known), None)
    if here is not None:
        return f"Here it is called {here!r}."
    return f"Here it is {_HOMES.get(ours[0], f'agent.{ours[0]}')}." if ours else None
