"""Agents by name, from public settings.

Rules of this file:
    * A search starts from one policy and ends in a commitment; the controls do neither.
    * Everything is known before round 1: the plan's noise, the number of rounds, the sizes.
"""

from __future__ import annotations

import math

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.commitment import Committing
from secure_pfnas.agents.critic import Critic, CriticSettings
from secure_pfnas.agents.exploration import Exploration, Fits, Starts
from secure_pfnas.agents.reinforce import Reinforce, ReinforceSettings
from secure_pfnas.agents.static import Static
from secure_pfnas.config import AgentSettings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.space import Architecture, SearchSpace

_ACCURACY = 0.8  # nominal, for a validation set's sampling noise alone


def make_agents(
    space: SearchSpace,
    settings: AgentSettings,
    *,
    rounds: int,
    attendance: float = 1.0,
    noise: float,
    fits: Fits | None = None,
) -> Agents:
    """Return fresh agents for every client.

    Args:
        space: What is searched.
        settings: Which kind, and how.
        rounds: The federation's.
        attendance: The share of the rounds a client takes part in, in (0, 1].
        noise: Standard deviation of a reward, see ``reward_noise``.
        fits: Whether a client can run an architecture; everybody everything unless given.

    Raises:
        UserError: CONFIG, for a start that is no architecture of the space.
    """
    if settings.faithful:
        return Reinforce(space, ReinforceSettings(faithful=True))
    if settings.kind == "random":
        return Static(space)
    start = start_architecture(space, settings.start)
    if settings.kind == "fixed":
        return Static(space, start or middle(space))
    search = round(settings.commit * rounds)
    prior = Starts(space, start, settings.deviation, fits)
    exploration = Exploration(
        settings.floor, min(settings.floor, settings.floor_last), max(1, round(search * attendance))
    )
    if settings.kind == "critic":
        known = CriticSettings(
            noise=noise,
            pooled=settings.pooled_effect,
            personal=settings.personal_effect,
            memory=settings.memory,
            bound=_bound(noise),
        )
        agents = Critic(space, known, prior, exploration)
    else:
        speed = ReinforceSettings(
            learning_rate=settings.learning_rate,
            baseline_decay=settings.baseline_decay,
            bound=_bound(noise),
        )
        agents = Reinforce(space, speed, prior, exploration)
    return Committing(agents, search, fits) if settings.commit < 1 else agents


def public_agents(
    space: SearchSpace, settings: AgentSettings, *, fits: Fits | None = None
) -> Agents:
    """Return what a server draws by where the devices choose for themselves.

    It is the policy that a search starts from, for ever: nothing is learnt, so nothing that a
    device found can be in it.

    Args:
        space: What is searched.
        settings: Where searches start.
        fits: Whether a client can run an architecture; everybody everything unless given.

    Raises:
        UserError: CONFIG, for a start that is no architecture of the space.
    """
    if settings.kind == "random":
        return Static(space)
    start = start_architecture(space, settings.start)
    return Static(space, prior=Starts(space, start, settings.deviation, fits))


def reward_noise(sigma: float, validation_size: int) -> float:
    """Return a reward's standard deviation, in accuracy.

    Args:
        sigma: Of the noise on a count, from the privacy plan; 0 for none.
        validation_size: The public nominal number of validation examples.
    """
    sampled = _ACCURACY * (1 - _ACCURACY) / validation_size
    return math.sqrt((sigma / validation_size) ** 2 + sampled)


def middle(space: SearchSpace) -> Architecture:
    """Return the middle architecture: wide and shallow.

    Of every decision the middle option, of two the lower, except for widths, where it is the upper.
    """
    return tuple(
        len(d.options) // 2 if d.name.endswith("width") else (len(d.options) - 1) // 2
        for d in space.decisions
    )


def start_architecture(space: SearchSpace, text: str) -> Architecture | None:
    """Return the architecture that ``text`` names; ``None`` for ``anywhere``.

    Args:
        space: What is searched.
        text: ``anywhere``, ``smallest``, ``middle``, ``largest``, or the number of the option of
            each decision, such as ``1-0-2``.

    Raises:
        UserError: CONFIG, for anything else.
    """
    options = [len(decision.options) for decision in space.decisions]
    named = {
        "anywhere": None,
        "smallest": (0,) * len(options),
        "middle": middle(space),
        "largest": tuple(count - 1 for count in options),
    }
    if text in named:
        return named[text]
    numbers = text.split("-")
    start = tuple(int(number) for number in numbers if number.isdecimal())
    if len(start) != len(numbers) or not space.contains(start):
        raise UserError(
            f"agent.start: found {text!r}, expected one of {', '.join(named)}, or "
            f"{len(options)} numbers such as {'-'.join('0' * len(options))}, the largest "
            f"{'-'.join(str(count - 1) for count in options)}",
            todo="name an architecture of the search space",
            code=ExitCode.CONFIG,
        )
    return start


def _bound(noise: float) -> float:
    # An accuracy lies in [0, 1] and its costs in [0, 1] times their weights; noise reaches 6 σ.
    return 10.0 + 6 * noise
