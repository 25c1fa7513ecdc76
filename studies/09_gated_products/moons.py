"""The points of the study: a file beside its file, found, hashed and kept with it."""

import numpy as np


def half_circles(samples: int, noise: float, seed: int):
    """Points (samples, 2) and targets (samples,): -1 on the upper circle, 1 on the lower."""
    rng = np.random.default_rng(seed)
    upper = np.arange(samples) % 2 == 0
    angle = rng.uniform(0.0, np.pi, samples)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.where(upper[:, None], circle, np.array([1.0, 0.5]) - circle)
    return points + noise * rng.standard_normal(points.shape), np.where(upper, -1.0, 1.0)
