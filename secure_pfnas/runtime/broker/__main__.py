"""Write mosquitto's configuration: ``python -m secure_pfnas.runtime.broker CREDENTIALS FOLDER``.

Rules of this file:
    * It writes two files and nothing else; a mistake is one line on stderr and an exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from secure_pfnas.errors import UserError
from secure_pfnas.runtime.broker.embedded import check_broker
from secure_pfnas.runtime.broker.mosquitto import write_files
from secure_pfnas.runtime.pki import CredentialFiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m secure_pfnas.runtime.broker", description="Write mosquitto's files."
    )
    parser.add_argument("credentials", type=Path, help="the broker's folder of certificate and key")
    parser.add_argument("folder", type=Path, help="where the two files go")
    parser.add_argument("--federation", required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104  # serves the network
    parser.add_argument("--port", type=int, default=8883)
    parser.add_argument("--server", action="append", help="a server's name (default: server)")
    parser.add_argument("--observer", action="append", default=[], help="an observer's name")
    parser.add_argument("--user", default="mosquitto", help="the account mosquitto runs as")
    options = parser.parse_args(arguments)
    credentials = CredentialFiles.in_folder(options.credentials)
    try:
        check_broker(credentials)
        files = write_files(
            options.folder,
            credentials,
            federation=options.federation,
            host=options.host,
            port=options.port,
            servers=options.server or ["server"],
            observers=options.observer,
            user=options.user,
        )
    except UserError as error:
        sys.stderr.write(f"{error.what}\n{error.todo}\n")
        return int(error.code)
    sys.stdout.write(f"{files.configuration}\n{files.acl}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
