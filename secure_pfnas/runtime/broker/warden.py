"""What makes mosquitto hang up on a client that is connected.

Rules of this file:
    * Reading a revocation list again, mosquitto refuses new connections and leaves old ones
      alone. Its dynamic security plugin, part of the same installation, can end one; it is used
      for that alone. Who may do what stays with the certificates and the list of rights.
    * Orders are taken on a Unix socket in a folder of our own, from a name that no certificate
      can carry, with a password that lives as long as the process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from secure_pfnas.runtime.files import OWNER_ONLY, write_atomically

CONTROL = "$CONTROL/dynamic-security/v1"
NAME = "warden@local"
PATIENCE_S = 3.0
_PLUGIN = "mosquitto_dynamic_security.so"
_ITERATIONS = 101
_PLACES = (
    "/usr/lib/*/", "/usr/lib/", "/usr/lib64/", "/usr/local/lib/", "/usr/libexec/mosquitto/",
)  # fmt: skip

log = logging.getLogger(__name__)


def find_plugin() -> Path | None:
    """Return the plugin's path, or None where mosquitto came without it."""
    for place in _PLACES:
        for path in sorted(Path("/").glob(f"{place.lstrip('/')}{_PLUGIN}")):
            return path
    return None


class Warden:
    """The means to end sessions of one mosquitto process.

    Args:
        plugin: Mosquitto's dynamic security plugin.
    """

    def __init__(self, plugin: Path) -> None:
        self._plugin = plugin
        # The path of a Unix socket must be short, wherever the broker's own folder lies.
        self._folder = Path(tempfile.mkdtemp(prefix="pfnas-"))
        self._password = secrets.token_hex(32)
        write_atomically(self._folder / "warden.json", self._rights(), OWNER_ONLY)

    def configuration(self) -> list[str]:
        """Return the lines that mosquitto needs; the listener must be the file's last."""
        return [
            "",
            "# Only to hang up on who was revoked",
            f"plugin {self._plugin}",
            f"plugin_opt_config_file {self._folder / 'warden.json'}",
            f"listener 0 {self._socket}",
        ]

    def hang_up(self, names: Collection[str]) -> bool:
        """End the sessions of these clients; returns whether mosquitto took the order."""
        orders = [
            {"command": order, "username": name}
            for name in names
            for order in ("createClient", "disableClient", "deleteClient")
        ]
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=NAME, protocol=MQTTv311, transport="unix"
        )
        client.username_pw_set(NAME, self._password)
        welcome = threading.Event()

        def connected(*_: object) -> None:
            welcome.set()

        client.on_connect = connected
        try:
            client.connect(str(self._socket), 1)
            client.loop_start()
            if not welcome.wait(PATIENCE_S):
                return False
            sent = client.publish(CONTROL, json.dumps({"commands": orders}), qos=1)
            sent.wait_for_publish(PATIENCE_S)
            return sent.is_published()
        except (OSError, RuntimeError, ValueError) as error:
            log.warning("mosquitto takes no orders: %s", error)
            return False
        finally:
            client.disconnect()
            client.loop_stop()

    def close(self) -> None:
        """Remove what was made."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _socket(self) -> Path:
        return self._folder / "warden.sock"

    def _rights(self) -> bytes:
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", self._password.encode(), salt, _ITERATIONS)
        client = {
            "username": NAME,
            "password": base64.b64encode(digest).decode(),
            "salt": base64.b64encode(salt).decode(),
            "iterations": _ITERATIONS,
            "roles": [{"rolename": "warden"}],
        }
        may = {"acltype": "publishClientSend", "topic": CONTROL, "allow": True}
        nothing = ("publishClientSend", "publishClientReceive", "subscribe")
        return json.dumps(
            {
                "clients": [client],
                "roles": [{"rolename": "warden", "acls": [may]}],
                "defaultACLAccess": dict.fromkeys(nothing, False),
            }
        ).encode()
