"""A fresh module from one built before.

Rules of this file:
    * Building a large net costs more than copying its weights, so it is built once; a replica
      shares nothing that training writes to: no tensor, no hook, no mode.
    * A module that appears twice in a net appears twice as one module in the replica.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn


def replica(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in the main memory, its parameters without values.

    Raises:
        ValueError: A parameter is used in two places, or the module has buffers.
    """
    parameters = list(module.named_parameters(remove_duplicate=False))
    if len({id(parameter) for _, parameter in parameters}) < len(parameters):
        raise ValueError("a parameter that is used twice cannot be extracted")
    if next(module.buffers(), None) is not None:
        raise ValueError("a subnet has no buffers")
    return _replica(module, {})


def _replica(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    twin = module.__class__.__new__(module.__class__)
    made[id(module)] = twin
    # Among a module's own containers are its hooks, which a wrapper hangs on one net alone.
    state: dict[str, Any] = {
        name: value.copy() if name.startswith("_") and isinstance(value, dict) else value
        for name, value in module.__dict__.items()
    }
    twin.__dict__ = state
    parameters = cast("dict[str, nn.Parameter | None]", module.__dict__["_parameters"])
    children = cast("dict[str, nn.Module | None]", module.__dict__["_modules"])
    state["_parameters"] = {
        name: None if value is None else nn.Parameter(torch.empty(value.shape))
        for name, value in parameters.items()
    }
    state["_modules"] = {
        name: None if child is None else _replica(child, made) for name, child in children.items()
    }
    return twin
