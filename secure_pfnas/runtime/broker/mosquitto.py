"""Mosquitto's files, made from the same table of rights, and a child process that uses them.

Rules of this file:
    * The configuration is complete: TLS 1.3, certificates on both sides, the certificate's name
      as user and client id, no anonymous user, no $SYS, bounded packets and queues.
    * Device rights are patterns over the certificate's name, so that a new device needs no new
      file. Servers and observers are named.
    * Nothing is persisted: whatever matters is acknowledged from end to end.
    * A supervised mosquitto follows the revocation list's file: who is on it is refused and hung
      up on within seconds, and nobody else notices.
"""

from __future__ import annotations

import getpass
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.broker.acl import Rights, rights_of
from secure_pfnas.runtime.broker.connection import PACKET_LIMIT
from secure_pfnas.runtime.broker.embedded import check_broker, told_to_leave
from secure_pfnas.runtime.broker.warden import Warden, find_plugin
from secure_pfnas.runtime.credentials import read_file
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.revocation import listed_names, stamp
from secure_pfnas.wire.identity import PartyRole

START_TIMEOUT_S = 10.0
WATCH_S = 1.0
USER_PATTERN = "%u"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MosquittoFiles:
    """The two files of one configuration."""

    configuration: Path
    acl: Path


def write_files(
    folder: Path,
    credentials: CredentialFiles,
    *,
    federation: str,
    host: str = "0.0.0.0",  # noqa: S104  # a deployment's broker serves the network
    port: int = 8883,
    servers: Sequence[str] = ("server",),
    observers: Sequence[str] = (),
    user: str = "mosquitto",
    warden: Warden | None = None,
) -> MosquittoFiles:
    """Write ``mosquitto.conf`` and ``mosquitto.acl`` into ``folder``.

    Args:
        folder: Made if it is missing.
        credentials: The broker's files, named absolutely in the configuration.
        federation: Whose topics.
        host: Address to listen on.
        port: Port to listen on.
        servers: Names of the server's certificates.
        observers: Names of observers' certificates.
        user: The account mosquitto runs as; it must be able to read the key.
        warden: What can hang up on clients, where there is something.

    Raises:
        UserError: STORAGE if they cannot be written.
    """
    files = MosquittoFiles(folder / "mosquitto.conf", folder / "mosquitto.acl")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.acl.write_text(acl(federation, servers=servers, observers=observers))
        # Newer versions refuse a list that others may read.
        files.acl.chmod(0o600)
        files.configuration.write_text(
            configuration(
                credentials, acl_file=files.acl, host=host, port=port, user=user, warden=warden
            )
        )
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}",
            todo="free space on the disk or choose a folder you may write to",
            code=ExitCode.STORAGE,
        ) from error
    return files


def configuration(
    credentials: CredentialFiles,
    *,
    acl_file: Path,
    host: str,
    port: int,
    user: str,
    warden: Warden | None = None,
) -> str:
    """Return the text of ``mosquitto.conf`` (mosquitto 2.0)."""
    lines = [
        f"listener {port} {host}",
        f"user {user}",
        "",
        "# Who may connect: TLS 1.3 and a certificate of this CA, whose name is the user",
        f"cafile {credentials.ca.resolve()}",
        f"certfile {credentials.certificate.resolve()}",
        f"keyfile {credentials.key.resolve()}",
        *([f"crlfile {credentials.crl.resolve()}"] if credentials.crl else []),
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {acl_file.resolve()}",
        "",
        "# Bounds; a packet above the limit ends the connection (message_size_limit would lie)",
        f"max_packet_size {PACKET_LIMIT}",
        "max_inflight_messages 20",
        "max_queued_messages 1000",
        "",
        "# Without this every message waits 44 ms",
        "set_tcp_nodelay true",
        "",
        "# Nothing to keep, nothing to tell",
        "persistence false",
        "sys_interval 0",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        *(warden.configuration() if warden is not None else []),
    ]
    return "\n".join(lines) + "\n"


def acl(federation: str, *, servers: Sequence[str], observers: Sequence[str]) -> str:
    """Return the text of ``mosquitto.acl``."""
    lines = ["# Devices: by the name in their certificate"]
    lines += _rules("pattern", rights_of(USER_PATTERN, PartyRole.DEVICE, federation))
    for role, names in ((PartyRole.SERVER, servers), (PartyRole.OBSERVER, observers)):
        for name in names:
            lines += ["", f"user {name}"]
            lines += _rules("topic", rights_of(name, role, federation))
    return "\n".join(lines) + "\n"


def find_binary() -> str | None:
    """Return mosquitto's path, or None if it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class MosquittoBroker:
    """A mosquitto child process with generated files.

    Args:
        credentials: A broker's files.
        folder: Where the configuration is written.
        federation: Whose topics.
        host: Address to listen on.
        port: Port, or 0 for a free one.
        servers: Names of the server's certificates.
        observers: Names of observers' certificates.

    Raises:
        UserError: BROKER without the binary, IDENTITY for credentials that are not a broker's.
    """

    def __init__(
        self,
        credentials: CredentialFiles,
        folder: Path,
        *,
        federation: str,
        host: str = "127.0.0.1",
        port: int = 0,
        servers: Sequence[str] = ("server",),
        observers: Sequence[str] = (),
    ) -> None:
        check_broker(credentials)
        binary = find_binary()
        if binary is None:
            raise UserError(
                "mosquitto is not installed",
                todo="install it (Debian: apt install mosquitto) or use the embedded broker",
                code=ExitCode.BROKER,
            )
        self._binary = binary
        self._credentials = credentials
        self._folder = folder
        self._federation = federation
        self._host, self._port = host, port
        self._servers, self._observers = servers, observers
        self._process: subprocess.Popen[bytes] | None = None
        self._warden: Warden | None = None
        self._read = self._stamps()
        self._listed = self._names()

    @property
    def log(self) -> Path:
        """Where the process writes."""
        return self._folder / "mosquitto.log"

    def start(self) -> BrokerAddress:
        """Start the process and wait until it listens.

        Raises:
            UserError: BROKER if it ends or does not listen in time.
        """
        self._port = self._port or _free_port(self._host)
        plugin = find_plugin()
        self._warden = None if plugin is None else Warden(plugin)
        files = self._write_files()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own configuration, no shell
                [self._binary, "-c", str(files.configuration)], stdout=log, stderr=log
            )
        address = BrokerAddress(self._host, self._port)
        self._await_listening(address)
        return address

    def reload(self) -> None:
        """Write the files again, have mosquitto read them, and hang up on who was revoked since.

        Where mosquitto cannot hang up on one client it is started again: all come back at once,
        but for the one.
        """
        self._read = self._stamps()
        before, self._listed = self._listed, self._names()
        self._write_files()
        if self._process is None:
            return
        self._process.send_signal(signal.SIGHUP)
        fresh = sorted({self._listed[one] for one in self._listed.keys() - before.keys()})
        if fresh and (self._warden is None or not self._warden.hang_up(fresh)):
            log.warning("mosquitto is started again, to hang up on %s", ", ".join(fresh))
            self.stop()
            self.start()

    def follow(self) -> None:
        """Reload if the revocation lists or the broker's own certificate have changed."""
        if self._stamps() != self._read:
            log.info("revocation lists or certificate have changed")
            self.reload()

    def _stamps(self) -> tuple[object, ...]:
        return stamp(self._credentials.crl), stamp(self._credentials.certificate)

    def check_alive(self) -> None:
        """Check that the process runs.

        Raises:
            UserError: BROKER if it has ended.
        """
        if self._process is None or self._process.poll() is not None:
            raise self._broken("mosquitto has ended")

    def stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None
        self._dismiss()

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._dismiss()

    def __enter__(self) -> BrokerAddress:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _dismiss(self) -> None:
        if self._warden is not None:
            self._warden.close()
        self._warden = None

    def _names(self) -> dict[int, str]:
        path = self._credentials.crl
        return {} if path is None else listed_names(read_file(path))

    def _await_listening(self, address: BrokerAddress) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                socket.create_connection((address.host, address.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise self._broken(f"mosquitto does not listen on {address.host}:{address.port}")

    def _broken(self, what: str) -> UserError:
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        return UserError(f"{what}: {''.join(last)}", todo=f"read {self.log}", code=ExitCode.BROKER)

    def _write_files(self) -> MosquittoFiles:
        return write_files(
            self._folder,
            self._credentials,
            federation=self._federation,
            host=self._host,
            port=self._port,
            servers=self._servers,
            observers=self._observers,
            user=getpass.getuser(),
            warden=self._warden,
        )


def supervise(
    broker: MosquittoBroker, *, on_ready: Callable[[BrokerAddress], None] | None = None
) -> None:
    """Run mosquitto until SIGINT or SIGTERM; SIGHUP writes its files again and is passed on.

    Must be called on the main thread.

    Raises:
        UserError: BROKER if it cannot start, or ends without being told to.
    """
    with told_to_leave(broker.reload) as leave:
        try:
            address = broker.start()
            if on_ready is not None:
                on_ready(address)
            while not leave.wait(WATCH_S):
                broker.check_alive()
                broker.follow()
        finally:
            broker.stop()


def _rules(keyword: str, rights: Rights) -> list[str]:
    reads = [f"{keyword} read {topic_filter}" for topic_filter in rights.reads]
    return reads + [f"{keyword} write {topic_filter}" for topic_filter in rights.writes]


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
