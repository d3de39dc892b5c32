"""Convolutions, products, norms and optimizer steps for XLA's CPU client, in C++.

XLA's convolutions are slow on a CPU, most of all their gradients and those of few channels a group
(`jaxcnn.layers.forms` has the figures); these are not. What else is here is one call where XLA
makes many kernels, each to compile, to load and to start. `direct`, `max_pool_gradient`, `moments`,
`normalised` and `joined` in `jaxcnn.layers` call it, and `held` and `stepping` in `jaxcnn.optim`;
`primitive` makes JAX's primitives of its functions, `hold` is one.

The C++ compiler of the machine ($CXX, g++, c++ or clang++) makes a library of the sources beside
this file, with the vectors that the processor has, in some 25 seconds when the first call of a
number type is traced, and keeps it in $XDG_CACHE_HOME/jaxcnn. Without a compiler, or with
JAXCNN_NATIVE=0, the layers fall back to what XLA has, with the same results up to rounding.
"""

from jaxcnn.native.build import DTYPES, FUNCTIONS, available

__all__ = ["DTYPES", "FUNCTIONS", "available"]
