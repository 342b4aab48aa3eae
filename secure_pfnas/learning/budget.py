"""What local training costs, counted and not measured.

Rules of this file:
    * Multiply-accumulates, as the cost model counts them. A step forward is one forward pass; a
      step backward is two, for what moves: one for its weights, one for its inputs.
    * A head that is trained alone needs no step backward through the body.
"""

from __future__ import annotations

from secure_pfnas.learning.jobs import Phases, Trains
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.space import Architecture, SearchSpace


def local_macs(
    space: SearchSpace, architecture: Architecture, phases: Phases, examples: int
) -> int:
    """Return the multiply-accumulates of training on ``examples`` examples.

    Args:
        space: The architecture's.
        architecture: What is trained.
        phases: How the examples are shared out.
        examples: How often one is shown: passes times the size of the training set.
    """
    forward = cost(space, architecture).macs
    tensors = (space.tensors[name] for name in space.head)
    head = sum(tensor.count(architecture) for tensor in tensors if tensor.present(architecture))
    backward = {Trains.ALL: 2 * forward, Trains.BODY: 2 * forward, Trains.HEAD: 2 * head}
    each = sum(phase.share * (forward + backward[phase.trains]) for phase in phases)
    return round(examples * each)
