"""The integer grid that updates are summed on, and the room that noise needs on it.

Rules of this file:
    * A sum of a whole cohort, noise included, never wraps around the ring.
    * A round's messages fit their envelopes, however many parameters and members there are.
    * Noise on weights is planned for the smallest sum a device lets open, less its colluders.
"""

from __future__ import annotations

from secure_pfnas.config import Settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.privacy.weight_plan import WeightNoise
from secure_pfnas.secagg.ckks.messages import BOX_MAX, LARGEST
from secure_pfnas.secagg.ckks.ring import encrypted_bytes
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.wire.codec import MIB

MICRO = 1_000_000


def weight_noise(settings: Settings, layout: SlotLayout) -> WeightNoise:
    """Say what noise on weights has to hide, and behind whom.

    Raises:
        UserError: CONFIG, where nothing is masked.
    """
    secagg = settings.secagg
    if not secagg.masking:
        raise UserError(
            "privacy.weight_noise: each client's share of the noise protects nothing without masks",
            todo="set secagg.masking = true, or privacy.weight_noise = false",
            code=ExitCode.CONFIG,
        )
    return WeightNoise(
        epsilon=settings.privacy.client_epsilon,
        clip_codes=Quantizer(secagg.update_clip, secagg.bits, summands=1).offset,
        dimensions=sum(slot.size for slot in layout.slots if not slot.personal),
        contributors=secagg.minimum_contributors - secagg.collusion,
    )


def grid(settings: Settings, margin: int) -> Quantizer:
    """Return the coding of one coordinate; sums of a cohort have ``margin`` codes to spare."""
    secagg = settings.secagg
    return Quantizer(
        round(secagg.update_clip * MICRO) / MICRO,  # as a roster states it
        secagg.bits,
        settings.federation.cohort,
        margin,
        ring_bits=secagg.ring_bits,
    )


def check_room(settings: Settings, margin: int) -> None:
    """Refuse noise that could wrap a sum around the ring.

    Raises:
        UserError: CONFIG, naming what gives room.
    """
    secagg = settings.secagg
    try:
        grid(settings, margin)
    except ValueError as error:
        raise UserError(
            f"secagg.bits = {secagg.bits}: noise on weights leaves no room in a ring of "
            f"{secagg.ring_bits} for sums of {settings.federation.cohort} devices",
            todo="use fewer secagg.bits, secagg.ring_bits = 32, a smaller federation.cohort or a "
            "larger privacy.client_epsilon",
            code=ExitCode.CONFIG,
        ) from error


def check_messages(settings: Settings, layout: SlotLayout) -> None:
    """Refuse ciphertexts or keys that no envelope would hold.

    Raises:
        UserError: CONFIG, saying how large they would be.
    """
    if settings.secagg.scheme != Scheme.CKKS.value:
        return
    sums = encrypted_bytes([slot.size for slot in layout.slots if not slot.personal])
    if sums > LARGEST:
        raise UserError(
            f'secagg.scheme = "ckks": the encrypted sums of {settings.space.name} take '
            f"{sums / MIB:.0f} MiB, and a message holds {LARGEST // MIB}",
            todo='choose a smaller search space, or set secagg.scheme = "masking"',
            code=ExitCode.CONFIG,
        )
    most = LARGEST // BOX_MAX
    if settings.federation.cohort > most:
        raise UserError(
            f'federation.cohort is {settings.federation.cohort}; with secagg.scheme = "ckks" one '
            f"message holds the sealed keys of at most {most} devices",
            todo=f'set federation.cohort = {most} or less, or secagg.scheme = "masking"',
            code=ExitCode.CONFIG,
        )
