"""A training loop of one's own (REINFORCE on CartPole) whose records the platform reports and ranks.

Run with ``python examples/plain_loop.py --out runs/mine --method fire --seed 0`` for some methods and seeds; then
``plasticbench resume runs/mine``.
"""

import argparse

import gymnasium
import numpy as np
import torch
from torch import nn

import plasticbench

EVERY_STEPS = 1_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/mine")
    parser.add_argument("--method", choices=("none", "fire", "shrink_perturb"), default="fire")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget-steps", type=int, default=10_000)
    return parser.parse_args()


def action_of(policy: nn.Module, obs: np.ndarray) -> tuple[int, torch.Tensor]:
    choice = torch.distributions.Categorical(logits=policy(torch.from_numpy(obs)))
    action = choice.sample()
    return int(action), choice.log_prob(action)


@torch.no_grad()
def evaluate(policy: nn.Module, seed: int, episodes: int = 5) -> list[float]:
    env, returns = gymnasium.make("CartPole-v1"), []
    for episode in range(episodes):
        (obs, _), total, is_over = env.reset(seed=1_000 * seed + episode), 0.0, False
        while not is_over:
            obs, reward, terminated, truncated, _ = env.step(int(policy(torch.from_numpy(obs)).argmax()))
            total, is_over = total + reward, terminated or truncated
        returns.append(total)
    return returns


def descend(optimizer: torch.optim.Optimizer, log_probs: list[torch.Tensor], rewards: list[float]) -> float:
    returns = torch.tensor(np.cumsum(rewards[::-1])[::-1].copy(), dtype=torch.float32)
    loss = -(torch.stack(log_probs) * (returns - returns.mean()) / (returns.std() + 1e-6)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(args.seed)
    env = gymnasium.make("CartPole-v1")
    policy = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    reset_step = args.budget_steps // 2
    with plasticbench.Recorder(
        args.out,
        method=args.method,
        task="CartPole-v1",
        seed=args.seed,
        budget_steps=args.budget_steps,
        agent="REINFORCE",
        references=(9.4, 500.0),
        reset_steps=[reset_step],
    ) as recorder:
        seen, log_probs, rewards, is_reset = [], [], [], False
        obs, _ = env.reset(seed=args.seed)
        for step in range(1, args.budget_steps + 1):
            seen.append(obs)
            action, log_prob = action_of(policy, obs)
            obs, reward, terminated, truncated, _ = env.step(action)
            log_probs.append(log_prob)
            rewards.append(float(reward))
            if terminated or truncated:
                loss = descend(optimizer, log_probs, rewards)
                recorder.record(step, {"train/return": sum(rewards), "loss/policy": loss})
                (obs, _), log_probs, rewards = env.reset(), [], []
                if step >= reset_step and not is_reset and args.method != "none":
                    plasticbench.reset(policy, args.method, optimizer=optimizer, seed=args.seed)
                    is_reset = True
            if step % EVERY_STEPS == 0:
                recorder.probe(policy, torch.from_numpy(np.stack(seen[-256:])), step=step)
                recorder.evaluation(step, evaluate(policy, args.seed))


if __name__ == "__main__":
    main()
