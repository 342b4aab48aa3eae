"""A whole deployment on one machine: authority, broker, server and two hosts of devices.

Rules of this file:
    * Broker, server and hosts are processes of their own that talk over TLS and nothing else; they
      are started by the same command line that starts a deployment.
    * One device is killed in the middle of a round and comes back from its folder.
    * Whatever happens, no process is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from secure_pfnas.config import Settings
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.children import Children
from secure_pfnas.runtime.enrolment import enrol
from secure_pfnas.runtime.files import removed_if_unused, storage_faults, write_atomically
from secure_pfnas.runtime.summary import over, summarise, write
from secure_pfnas.runtime.terms import DataFacts, device_names

BROKER_START_S = 20.0
FAREWELL_S = 5.0
POLL_S = 0.1
CRASH_ROUND = 3


@dataclass(frozen=True, slots=True)
class Demo:
    """What to show.

    Args:
        folder: The run's; made here.
        settings: Resolved.
        dataset: What the settings were resolved with.
        hosts: Processes the devices are spread over.
    """

    folder: Path
    settings: Settings
    dataset: DataFacts
    hosts: int = 2

    @property
    def crash(self) -> str | None:
        """The device that is killed, as ``NAME@ROUND``; none where a round needs everybody."""
        federation, secagg = self.settings.federation, self.settings.secagg
        if federation.cohort <= secagg.minimum_survivors or secagg.dropout_margin < 1:
            return None
        victim = device_names(federation.clients)[federation.clients // 3]
        return f"{victim}@{max(1, min(CRASH_ROUND, federation.rounds - 1))}"

    def run(self, watch: Callable[[], None] = lambda: None) -> dict[str, object]:
        """Run it, and return the summary that is also in ``summary.json``.

        Args:
            watch: Called again and again while it runs.

        Raises:
            UserError: In the words and with the code of the process that failed.
        """
        started = time.monotonic()
        with removed_if_unused(self.folder):
            with storage_faults(self.folder):
                self.folder.mkdir(parents=True)
            certs, config = self.folder / "certs", self.folder / "federation.toml"
            write_atomically(config, self.settings.to_toml().encode())
            enrol(self.settings, certs, now=datetime.now(UTC))
            with Children(self.folder / "logs") as children:
                self._start(children, config, certs)
                while children.ended("server") is None:
                    children.check()
                    watch()
                    time.sleep(POLL_S)
                children.check(tolerated=(ExitCode.ABORTED,))
                children.wait(self._hosts(), FAREWELL_S)
            watch()
        summary = summarise(
            self.folder,
            dataset=self.dataset,
            transport=over("embedded"),
            wall_s=time.monotonic() - started,
        )
        summary["killed"] = self._killed()
        write(self.folder, summary)
        return summary

    def _killed(self) -> str | None:
        """Return the crash, if its round asked that device and went on without it."""
        name, _, number = (self.crash or "").partition("@")
        happened = name and (int(number), name) in observe.run(self.folder).dropped
        return self.crash if happened else None

    def _start(self, children: Children, config: Path, certs: Path) -> None:
        broker = ["broker", "start", "--certs", str(certs), "--port", "0", "--json"]
        children.start("broker", broker)
        url = str(children.answer("broker", BROKER_START_S)["url"])
        common = [str(config), "--broker", url, "--certs", str(certs), "--out", str(self.folder)]
        children.start("server", ["server", *common, "--json"])
        names = device_names(self.settings.federation.clients)
        crash = self.crash
        for index, host in enumerate(self._hosts()):
            mine = names[index :: self.hosts]
            words = ["client", *common, "--devices", ",".join(mine), "--json"]
            if crash and crash.partition("@")[0] in mine:
                words += ["--crash", crash]
            children.start(host, words)

    def _hosts(self) -> list[str]:
        return [f"host-{index + 1}" for index in range(self.hosts)]
