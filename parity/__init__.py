"""PyTorch meets JAX here and only here: one pair of networks, compared to the full depth.

`parity.harness` compares a network with its PyTorch twin, or any (torch module, Flax module) pair
of the user's; `parity.report` makes tables of the errors and finds the first layer, parameter and
step at which two sides part; `parity.reference` holds the twins.
"""
