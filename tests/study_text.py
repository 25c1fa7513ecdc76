"""Small study files that many tests begin from."""

TEXT = """
name = "small"
seeds = 2

[module]
kind = "mlp"
inputs = 2
depth = 2

[lift]
sizes = [4, 8]
edges = { kind = "bernoulli_in_degree", mean = 2 }
ratios = { h2 = 0.5 }

[lift.weights_over]
"x->h1" = { kind = "gaussian_fan_in", scale = 2.0 }

[task]
kind = "periodic"
harmonics = { 1 = 1.0 }
samples = 8

[flow]
horizon = 5.0
solver = "tsit5"
loss_below = 0.01
"""

TINY = """
name = "tiny"
[module]
kind = "mlp"
inputs = 2
depth = 1
[lift]
sizes = [4]
edges = { kind = "complete" }
[task]
kind = "periodic"
harmonics = { 1 = 1.0 }
samples = 8
[flow]
horizon = 1.0
solver = "tsit5"
"""
