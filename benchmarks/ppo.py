"""PPO on CartPole with 4 environments: member-steps per second of populations and of a plain loop of one network.

    python -m benchmarks.ppo                # M = 1 and M = 8 of plasticbench, and the loop, in turn

Ours is the whole trainer, as a benchmark file runs it. The loop does what CleanRL's single file does (fe8d8a0): modules
and ``torch.optim.Adam``, one forward pass to act and one to value, advantages step by step, on Gymnasium's vector of
environments with statistics of episodes; a second time it has our environments, so that what these save is
known. All train two networks of 2x64 on rollouts of 4 x 128 steps, 16 updates each, on one thread. Rates are per
CPU second, the best of the rounds. Prints one JSON object; compare the ratios of one run only.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from plasticbench.envs import classic
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.trainer import Trainer

TASK, NUM_ENVS, ROLLOUT, EPOCHS, MINIBATCHES = "CartPole-v1", 4, 128, 4, 4
DISCOUNT, LAMBDA, CLIP = 0.99, 0.95, 0.2


def native(members: int) -> Iterator[int]:
    """Rollouts of a population, each with its updates; yields the member-steps of each."""
    forever = 512 * 1_000_000
    benchmark = from_dict(
        {
            "name": "ppo",
            "environments": [{"kind": "classic", "task": TASK, "num_envs": NUM_ENVS}],
            "agent": {"kind": "ppo"},
            "methods": {"none": {"kind": "none"}},
            "seeds": members,
            "budget_steps": forever,
            "probes": {"kinds": []},
            "records": {"every_steps": 10_000},
            "evaluation": {"every_steps": forever, "episodes": 1},
            "execution": {"members_per_population": members},
        }
    )
    trainer = Trainer(benchmark, make_plan(benchmark).segments[0])
    trainer.start()
    course = trainer.advance()
    while True:
        for _ in range(ROLLOUT):
            next(course)
        yield members * NUM_ENVS * ROLLOUT


def gymnasium_envs() -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """First observations, and a step to observation, reward and end."""
    env = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(TASK)) for _ in range(NUM_ENVS)]
    )

    def step(action: np.ndarray) -> Any:
        obs, reward, terminated, truncated, _ = env.step(action)
        return obs, reward, np.logical_or(terminated, truncated)

    return env.reset(seed=1)[0], step


def our_envs() -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """The same of the environments that populations have."""
    env = classic.Config(task=TASK, num_envs=NUM_ENVS).build(list(range(NUM_ENVS)), 1)

    def step(action: np.ndarray) -> Any:
        followed = env.step(action)
        return followed.obs, followed.reward, followed.terminated | followed.truncated

    return env.reset(), step


def _layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Agent(nn.Module):
    """Actor and critic apart."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(_layer(4, 64), nn.Tanh(), _layer(64, 64), nn.Tanh(), _layer(64, 1, 1.0))
        self.actor = nn.Sequential(_layer(4, 64), nn.Tanh(), _layer(64, 64), nn.Tanh(), _layer(64, 2, 0.01))

    def act(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Action, log probability, entropy and value."""
        policy = torch.distributions.Categorical(logits=self.actor(obs))
        action = policy.sample() if action is None else action
        return action, policy.log_prob(action), policy.entropy(), self.critic(obs)


class Rollout:
    """What was done and seen, step by step."""

    def __init__(self) -> None:
        shape = (ROLLOUT, NUM_ENVS)
        self.obs, self.actions = torch.zeros(*shape, 4), torch.zeros(shape)
        self.log_probs, self.rewards, self.ends, self.values = (torch.zeros(shape) for _ in range(4))

    def advantages(self, next_value: Tensor, next_end: Tensor) -> Tensor:
        """By generalised advantage estimation."""
        found, later = torch.zeros_like(self.rewards), torch.zeros(NUM_ENVS)
        for t in reversed(range(ROLLOUT)):
            goes_on = 1.0 - (next_end if t == ROLLOUT - 1 else self.ends[t + 1])
            following = next_value if t == ROLLOUT - 1 else self.values[t + 1]
            error = self.rewards[t] + DISCOUNT * following * goes_on - self.values[t]
            found[t] = later = error + DISCOUNT * LAMBDA * goes_on * later
        return found


def single_file(make: Callable[[], tuple[np.ndarray, Callable[[np.ndarray], Any]]]) -> Iterator[int]:
    """Rollouts of the plain loop, each with its updates; yields the steps of each."""
    first, step_envs = make()
    agent, rollout = Agent(), Rollout()
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    obs, end = torch.as_tensor(first, dtype=torch.float32), torch.zeros(NUM_ENVS)
    while True:
        for t in range(ROLLOUT):
            rollout.obs[t], rollout.ends[t] = obs, end
            with torch.no_grad():
                action, log_prob, _, value = agent.act(obs)
                rollout.values[t] = value.flatten()
            rollout.actions[t], rollout.log_probs[t] = action, log_prob
            seen, reward, ended = step_envs(action.numpy())
            rollout.rewards[t] = torch.as_tensor(reward).view(-1)
            obs, end = torch.as_tensor(seen, dtype=torch.float32), torch.as_tensor(ended, dtype=torch.float32)
        with torch.no_grad():
            advantages = rollout.advantages(agent.critic(obs).flatten(), end)
        _learn(agent, optimizer, rollout, advantages)
        yield NUM_ENVS * ROLLOUT


def _learn(agent: Agent, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: Tensor) -> None:
    returns = (advantages + rollout.values).flatten()
    obs, actions, log_probs = rollout.obs.flatten(0, 1), rollout.actions.flatten(), rollout.log_probs.flatten()
    advantage, values, index = advantages.flatten(), rollout.values.flatten(), np.arange(NUM_ENVS * ROLLOUT)
    size, clip_fractions = len(index) // MINIBATCHES, []
    for _ in range(EPOCHS):
        np.random.default_rng().shuffle(index)
        for start in range(0, len(index), size):
            rows = index[start : start + size]
            _, new_log_prob, entropy, new_value = agent.act(obs[rows], actions.long()[rows])
            log_ratio = new_log_prob - log_probs[rows]
            ratio = log_ratio.exp()
            with torch.no_grad():
                clip_fractions += [((ratio - 1.0).abs() > CLIP).float().mean().item()]
            own = advantage[rows]
            own = (own - own.mean()) / (own.std() + 1e-8)
            policy_loss = torch.max(-own * ratio, -own * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            new_value = new_value.view(-1)
            held = values[rows] + (new_value - values[rows]).clamp(-CLIP, CLIP)
            value_loss = 0.5 * torch.max((new_value - returns[rows]) ** 2, (held - returns[rows]) ** 2).mean()
            loss = policy_loss - 0.01 * entropy.mean() + 0.5 * value_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def best_rates(runs: dict[str, Iterator[int]], rounds: int, cpu_s: float) -> dict[str, float]:
    """Member-steps per CPU second of each, the best of the rounds, all of them in turn within each round."""
    rates = dict.fromkeys(runs, 0.0)
    for run in runs.values():
        next(run)
    for _ in range(rounds):
        for name, run in runs.items():
            steps, began = 0, time.process_time()
            while (taken := time.process_time() - began) < cpu_s:
                steps += next(run)
            rates[name] = max(rates[name], steps / taken)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds per measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    runs = {
        "native_m1": native(1),
        "native_m8": native(8),
        "single_file": single_file(gymnasium_envs),
        "single_file_our_envs": single_file(our_envs),
    }
    rates = best_rates(runs, args.rounds, args.seconds)
    result = {
        "benchmark": "ppo",
        "member_steps_per_cpu_s": {name: round(rate) for name, rate in rates.items()},
        "m8_over": {name: round(rates["native_m8"] / rates[name], 2) for name in runs if name != "native_m8"},
        "m1_over_single_file": round(rates["native_m1"] / rates["single_file"], 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
