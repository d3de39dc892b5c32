"""Convolutions, products and sums for XLA's CPU client: C++, compiled once on its own machine.

XLA's convolutions are slow on a CPU, most of all their gradients and those of few channels a group
(`jaxcnn.layers.forms` has the figures); these are not. `direct`, `max_pool_gradient` and `moments`
in `jaxcnn.layers` call them, and `jaxcnn.optim.held`. The C++ compiler of the machine ($CXX, g++,
c++ or clang++) makes a library of the sources beside this file, with the vectors that the processor
has, in some twenty seconds when the first convolution of a number type is traced, and keeps it in
$XDG_CACHE_HOME/jaxcnn. Without a compiler, or with JAXCNN_NATIVE=0, the layers fall back to what
XLA has, with the same results up to rounding.
"""

from jaxcnn.native.build import DTYPES, FUNCTIONS, available

__all__ = ["DTYPES", "FUNCTIONS", "available"]
