"""Which devices can be asked, and with which keys.

Rules of this file:
    * A device is known by its certificate; its newest greeting replaces all earlier ones, and
      with them the keys that it no longer names.
    * What a device says of its keys is checked when it greets, at its own risk: a bad key in a
      roster would be everybody's.
    * A prekey is used once. A prekey that was in a roster is never taken again, however often a
      greeting repeats it.
    * A device that dropped out sits out the next round, and comes back by greeting again. So a
      dead device costs one deadline, not one a round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from secure_pfnas.config import DeviceClass
from secure_pfnas.roles.messages import Hello
from secure_pfnas.secagg.keys import verify_prekey
from secure_pfnas.secagg.messages import PublicPrekey
from secure_pfnas.wire.envelope import Opened, check_seal_public


@dataclass(slots=True)
class Device:
    """What the server knows of one device; all of it public."""

    name: str
    certificate: bytes
    seal_public: bytes
    device_class: DeviceClass
    session: int
    prekeys: dict[int, PublicPrekey] = field(default_factory=dict[int, PublicPrekey])
    spent_below: int = 0
    absent_until: int = 0
    greeted: bool = True

    def take_prekey(self) -> PublicPrekey:
        """Spend the oldest unused prekey, and with it every older number."""
        sequence = min(self.prekeys)
        self.spent_below = sequence + 1
        return self.prekeys.pop(sequence)


class Registry:
    """The devices that have greeted this server process."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}

    def __getitem__(self, name: str) -> Device:
        return self._devices[name]

    @property
    def names(self) -> list[str]:
        """Every device that ever greeted, sorted."""
        return sorted(self._devices)

    def session(self, name: str) -> int | None:
        """Return the session of a device's newest greeting; ``None`` before the first."""
        device = self._devices.get(name)
        return device.session if device else None

    def greet(self, opened: Opened, hello: Hello) -> Device:
        """Take a greeting; keys already spent are dropped from it.

        Raises:
            Rejected: BAD_SIGNATURE or MALFORMED, for a key that no roster can name; the greeting
                then counts for nothing.
        """
        name = opened.sender.name
        check_seal_public(hello.seal_public, name)
        device = self._devices.get(name)
        if device is None or device.session != opened.header.session:
            spent = device.spent_below if device else 0
            absent = device.absent_until if device else 0
            device = Device(
                name=name,
                certificate=opened.certificate,
                seal_public=hello.seal_public,
                device_class=hello.device_class,
                session=opened.header.session,
                spent_below=spent,
                absent_until=absent,
            )
        spent_below = device.spent_below
        offered = {key.sequence: key for key in hello.prekeys if key.sequence >= spent_below}
        for key in offered.values():
            verify_prekey(opened.sender, key)
        self._devices[name] = device
        device.certificate = opened.certificate  # it may have been renewed
        device.prekeys = offered
        device.greeted = True
        return device

    def available(self, round_number: int) -> list[str]:
        """Name the devices that can be asked in this round, sorted."""
        return [
            name
            for name, device in sorted(self._devices.items())
            if device.prekeys and device.greeted and device.absent_until <= round_number
        ]

    def dropped(self, name: str, round_number: int) -> None:
        """A device did not finish this round: it sits out the next and must greet again."""
        device = self._devices[name]
        device.absent_until = round_number + 2
        device.greeted = False
