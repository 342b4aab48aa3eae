"""The client's side of ``memory``: prints the peak of making one upload as JSON."""

from __future__ import annotations

import json
import os

import numpy as np

from tests.benchmarks.client_upload_ours import joined
from tests.benchmarks.memory import PARAMETERS
from tests.benchmarks.memory_round import PACKING, SIZES, Peak


def main() -> None:
    client = joined(8, tuple(SIZES.items()))
    peak = Peak()
    codes = np.full(PARAMETERS, 7, np.uint32)
    values = {slot: codes[slice(*PACKING.run(slot))] for slot in SIZES}
    _, message = client.upload(values, os.urandom)
    assert sum(len(slot.values) for slot in message.slots) == 4 * PARAMETERS
    print(json.dumps({"peak_bytes": peak.bytes()}))


if __name__ == "__main__":
    main()
