"""Torch networks, one module for each codec family, named after it.

Nothing on the coding path imports this package.

A family's module has `build`, which takes `span`, the ratio of the largest to the smallest rate
weight, and the options of a configuration's [network] table. It returns a FamilyNetwork
(networks/coded.py). In training, the sides of images are multiples of 64.
"""
