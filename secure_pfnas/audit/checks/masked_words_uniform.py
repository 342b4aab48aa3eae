"""An upload's words look uniform to whoever holds no seed.

Necessary, not sufficient: words under a guessable mask look uniform too.
"""

from __future__ import annotations

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Journal
from secure_pfnas.audit.statistics import FALSE_ALARM, WORDS_NEEDED, looks_uniform

NAME = "masked_words_uniform"
CLAIM = "every upload is indistinguishable from uniform words by the distribution of its bytes"


def check(journal: Journal, false_alarm: float = FALSE_ALARM) -> Finding:
    """Compare the bytes of every upload with uniform ones by χ².

    Args:
        journal: With the bodies that the server could read.
        false_alarm: Probability that honest uploads fail, over all of them together.
    """
    uploads = [(given, words) for given in journal.uploads() if len(words := given.words())]
    judgeable = [(given, words) for given, words in uploads if len(words) >= WORDS_NEEDED]
    if not judgeable:
        return unseen(NAME, CLAIM, f"{len(uploads)} uploads, none of {WORDS_NEEDED} words")
    level = false_alarm / len(judgeable)
    faults = [
        f"upload of {given.device} in round {given.round}: its bytes are not uniform"
        for given, words in judgeable
        if not looks_uniform(words, level, given.ring_bits)
    ]
    total = sum(len(words) for _, words in judgeable)
    seen = f"{len(judgeable)} uploads, {total} words; false alarms ≤ {false_alarm:g}"
    return judged(NAME, CLAIM, faults, seen)
