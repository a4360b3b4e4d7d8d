"""Bessel functions of the first kind, of orders 0 and 1, as ops of Wengert written in C++."""

import wengert

from . import _bessel

j0 = wengert.custom_op(_bessel.j0)
j1 = wengert.custom_op(_bessel.j1)
