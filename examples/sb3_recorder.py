"""Stable-Baselines3's DQN, reset by a callback of plasticbench, whose records the platform reports and ranks.

Run with ``python examples/sb3_recorder.py --out runs/sb3 --method fire --seed 0`` for some methods and seeds; then
``plasticbench resume runs/sb3``.
"""

import argparse

from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

import plasticbench
from plasticbench.sb3 import ResetCallback

EVERY_STEPS = 500


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/sb3")
    parser.add_argument("--method", choices=("none", "fire", "shrink_perturb"), default="fire")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget-steps", type=int, default=20_000)
    return parser.parse_args()


class Record(BaseCallback):
    """Evaluates and probes every so many steps."""

    def __init__(self, recorder: plasticbench.Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def _on_step(self) -> bool:
        if self.num_timesteps % EVERY_STEPS == 0 and self.model.replay_buffer.size() >= 64:
            returns, _ = evaluate_policy(self.model, self.model.get_env(), 5, return_episode_rewards=True, warn=False)
            batch = self.model.replay_buffer.sample(64).observations
            self.recorder.probe(self.model.q_net, batch, step=self.num_timesteps, kinds=["dormant_ratio", "srank"])
            self.recorder.evaluation(self.num_timesteps, returns)
        return True


def main() -> None:
    args = parse_arguments()
    reset_step = args.budget_steps // 2
    model = DQN("MlpPolicy", "CartPole-v1", seed=args.seed, learning_starts=200, buffer_size=10_000, device="cpu")
    with plasticbench.Recorder(
        args.out,
        method=args.method,
        task="CartPole-v1",
        seed=args.seed,
        budget_steps=args.budget_steps,
        agent="stable-baselines3 DQN",
        references=(9.4, 500.0),
        reset_steps=[reset_step],
    ) as recorder:
        resets = [] if args.method == "none" else [ResetCallback(args.method, every=reset_step)]
        model.learn(args.budget_steps - 1, callback=[Record(recorder), *resets])
        if recorder.step < args.budget_steps:  # the last rollout may have ended with an evaluation
            returns, _ = evaluate_policy(model, model.get_env(), 5, return_episode_rewards=True)
            recorder.evaluation(args.budget_steps, returns)


if __name__ == "__main__":
    main()
