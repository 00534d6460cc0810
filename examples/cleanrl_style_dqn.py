"""DQN on CartPole in one file, in the manner of CleanRL; the lines marked ``plasticbench`` reset and probe it.

Run with ``python examples/cleanrl_style_dqn.py --total-steps 20000 --reset-every 5000``.
"""

import argparse
import copy

import gymnasium
import numpy as np
import torch
from torch import nn

import plasticbench  # plasticbench: 1 of 3


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env-id", default="CartPole-v1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-steps", type=int, default=20_000)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--target-every", type=int, default=500)
    parser.add_argument("--reset-every", type=int, default=5_000)
    return parser.parse_args()


class Replay:
    def __init__(self, capacity: int, obs_size: int) -> None:
        self.obs, self.next_obs = np.zeros((2, capacity, obs_size), dtype=np.float32)
        self.action, self.count = np.zeros(capacity, dtype=np.int64), 0
        self.reward, self.terminated = np.zeros((2, capacity), dtype=np.float32)

    def add(self, obs, next_obs, action, reward, terminated) -> None:
        row = self.count % len(self.action)
        self.obs[row], self.next_obs[row], self.action[row] = obs, next_obs, action
        self.reward[row], self.terminated[row] = reward, terminated
        self.count += 1

    def sample(self, rows: int, rng: np.random.Generator) -> list[torch.Tensor]:
        index = rng.integers(min(self.count, len(self.action)), size=rows)
        columns = (self.obs, self.next_obs, self.action, self.reward, self.terminated)
        return [torch.from_numpy(column[index]) for column in columns]


def main() -> None:
    args = parse_arguments()
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    env = gymnasium.make(args.env_id)
    obs_size, num_actions = env.observation_space.shape[0], int(env.action_space.n)
    q_network = nn.Sequential(
        nn.Linear(obs_size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_actions)
    )
    target_network = copy.deepcopy(q_network)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-3)
    replay = Replay(10_000, obs_size)

    episode_return, (obs, _) = 0.0, env.reset(seed=args.seed)
    for step in range(1, args.total_steps + 1):
        epsilon = max(0.05, 1.0 - step / (0.3 * args.total_steps))
        if rng.random() < epsilon:
            action = int(rng.integers(num_actions))
        else:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        replay.add(obs, next_obs, action, reward, terminated)
        obs, episode_return = next_obs, episode_return + float(reward)
        if terminated or truncated:
            print(f"step={step} episodic_return={episode_return:.0f}")
            episode_return, (obs, _) = 0.0, env.reset()

        if step < args.learning_starts:
            continue
        rows, next_rows, actions, rewards, ends = replay.sample(args.batch_size, rng)
        with torch.no_grad():
            td_target = rewards + 0.99 * (1.0 - ends) * target_network(next_rows).max(dim=1).values
        loss = nn.functional.mse_loss(q_network(rows).gather(1, actions[:, None])[:, 0], td_target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % args.target_every == 0:
            target_network.load_state_dict(q_network.state_dict())
        if step % args.reset_every == 0 and step < args.total_steps:
            plasticbench.reset(q_network, "fire", target=target_network, optimizer=optimizer, seed=step)  # 2 of 3
            print(f"step={step}", plasticbench.probe(q_network, rows, ["dormant_ratio", "dfi"]))  # 3 of 3
    env.close()


if __name__ == "__main__":
    main()
