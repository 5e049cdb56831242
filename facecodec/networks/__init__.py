"""Torch networks, one module for each codec family, named after it.

Nothing on the coding path imports this package.

A family's module has `build`, which takes `span`, the ratio of the largest to the smallest rate
weight, and the options of a configuration's [network] table. It gives a module that takes images
(B, 3, H, W) in 0..1, sides multiples of 64, q (B,) and whether the rate is to be that of noise, and
gives Coded; its `frozen()` gives the frozen model's tensors.
"""
