"""One thread per test process: small networks gain nothing from more, and timings stay bounded."""

import torch

torch.set_num_threads(1)
