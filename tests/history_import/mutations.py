# SPDX-License-Identifier: Apache-2.0
"""Imports that are broken in one way each: all of them, from the files that own them."""

from . import mutations_of_images, mutations_of_joins, mutations_of_landings
from .mutation import MUTATIONS, Mutation

__all__ = [
    "MUTATIONS",
    "Mutation",
    "mutations_of_images",
    "mutations_of_joins",
    "mutations_of_landings",
]
