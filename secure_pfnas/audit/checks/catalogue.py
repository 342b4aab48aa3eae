"""The checks by their ids: which check puts which claim to the test, how, and from where.

Rules of this file:
    * An id is for people and reports; a check's name is its file's.
    * ``from_files`` says whether an outsider's capture and what was handed over suffice. Where a
      check needs the server's view or planted canaries, a scenario plays it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One row.

    Args:
        id: As reports call it.
        check: The check's name.
        method: How it works, in a few words.
        from_files: Whether ``audit check`` can do it.
    """

    id: str
    check: str
    method: str
    from_files: bool = False


CATALOGUE = (
    Entry("T1", "tls_and_certificates", "active probes"),
    Entry("T2", "rights_by_certificate", "active probes"),
    Entry("S1", "message_schema", "allowlist of declared types"),
    Entry("S1", "signed_by_sender", "certificate and signature of every envelope", from_files=True),
    Entry("S2", "sealed_bodies", "χ² of sealed bytes; keys compared", from_files=True),
    Entry("S2", "no_plaintext_at_broker", "planted canaries, searched for"),
    Entry("S2", "no_plaintext_at_server", "planted canaries, searched for"),
    Entry("S3", "reward_noised", "χ² of released minus true counts"),
    Entry("M1", "masked_words_uniform", "χ² of masked bytes"),
    Entry("M2", "masks_fresh", "χ² of differences of uploads"),
    Entry("C1", "single_client_sum", "recount from rosters, signatures and reveals"),
    Entry("E1", "ledger_matches_releases", "one to one, value by value"),
    Entry("E1", "reports_in_ledgers", "one to one, by sealed reports", from_files=True),
    Entry("E2", "budget_kept", "a second accountant"),
    Entry("E2", "spent_stays_spent", "order of each journal", from_files=True),
    Entry("A1", "log_intact", "hash chain and signed Merkle roots", from_files=True),
    Entry("A1", "log_complete", "heads held by others; both ends reconciled", from_files=True),
)

IDS = {entry.check: entry.id for entry in CATALOGUE}
