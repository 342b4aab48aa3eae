"""TLS as both ends demand it.

Rules of this file:
    * TLS 1.3 and nothing older, certificates on both sides, host names checked by the client.
    * A file that cannot be used is one ``UserError`` line.
"""

from __future__ import annotations

import ssl

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.pki import CredentialFiles


def client_context(credentials: CredentialFiles) -> ssl.SSLContext:
    """Return the context of a party that connects to the broker.

    Raises:
        UserError: IDENTITY for files that cannot be used.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), credentials)


def server_context(credentials: CredentialFiles) -> ssl.SSLContext:
    """Return the context of a broker, which accepts none without a certificate of the CA.

    Raises:
        UserError: IDENTITY for files that cannot be used.
    """
    context = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), credentials)
    context.verify_mode = ssl.CERT_REQUIRED
    # Without tickets every connection shows its certificate again, so revocation is noticed.
    context.num_tickets = 0
    return context


def _loaded(context: ssl.SSLContext, credentials: CredentialFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load(context, credentials)
    return context


def load(context: ssl.SSLContext, credentials: CredentialFiles) -> None:
    """Have connections from now on show, and believe, what the files hold.

    Raises:
        UserError: IDENTITY for files that cannot be used.
    """
    try:
        context.load_verify_locations(cafile=credentials.ca)
        context.load_cert_chain(credentials.certificate, credentials.key)
    except OSError as error:
        raise UserError(
            f"{credentials.certificate} cannot be used for TLS: {error.strerror or error}",
            todo="issue it again with `secure-pfnas certs issue`",
            code=ExitCode.IDENTITY,
        ) from error
