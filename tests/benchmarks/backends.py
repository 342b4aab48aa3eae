"""Both schemes of secure aggregation side by side: 20 devices, the compact space, three dropped.

The devices' architectures are drawn at random; updates are Gaussian floats, quantised at 24 bits
and summed by each scheme in this process, every message encoded and decoded on its way. Times are
processor seconds of one thread, the best of some rounds that the two schemes take in turns.
``ckks_error`` is the largest distance of a coordinate of any open sum from the sum of the floats;
``ckks_equals_masking`` says whether both give the same bits.

    python -m tests.benchmarks.backends        prints the table of docs/backends.md
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np

from secure_pfnas.config import load_settings
from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.roles.federation import Federation
from secure_pfnas.secagg.parameters import ClientPolicy, Scheme
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.randomness import SeededStream
from tests.secagg.ckks_fleet import CkksFleet
from tests.secagg.fleet import Fleet, names

CLIENTS, ABSENT, CLIP = 20, 3, 5.0
COMPACT = ["space.channels=1", "space.height=14", "space.width=14", "space.classes=10"]
ERROR_GOAL = 1e-4
REPEATS = 5


class Meter:
    """Adds up processor time and bytes, step by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, int] = defaultdict(int)

    def timed(self, what: str, step: Callable[[], Any]) -> Any:
        begin = process_time()
        result = step()
        self.seconds[what] += process_time() - begin
        return result

    def best_of(self, other: Meter | None) -> Meter:
        """Take over the least time of each step; bytes are the same every time."""
        for what, seconds in other.seconds.items() if other else ():
            self.seconds[what] = min(self.seconds[what], seconds)
        return self

    def sent(self, what: str, message: Message) -> None:
        self.bytes[what] += len(message.encode())


def party(scheme: Scheme) -> tuple[Fleet, dict[str, dict[int, np.ndarray]], Quantizer]:
    """Return a fleet with quantised values, the floats behind them, and the quantiser."""
    federation = Federation.of(load_settings(None, COMPACT))
    space, layout = federation.space, federation.layout
    rng = np.random.default_rng(7)
    drawn = {
        cid: tuple(int(rng.integers(len(d.options))) for d in space.decisions)
        for cid in names(CLIENTS)
    }
    terms = ClientPolicy(
        minimum_survivors=6,
        minimum_contributors=5,
        collusion=3,
        bits=24,
        clip_micro=round(CLIP * 1e6),
        scheme=scheme,
    )
    made = CkksFleet if scheme is Scheme.CKKS else Fleet
    slots = {cid: layout.shared(architecture) for cid, architecture in drawn.items()}
    fleet = made(slots, federation.slot_sizes, terms)
    quantizer = Quantizer(CLIP, terms.bits, CLIENTS)
    floats = {
        cid: {s: rng.normal(0, 0.01, federation.slot_sizes[s]).astype(np.float32) for s in held}
        for cid, held in slots.items()
    }
    fleet.values = {
        cid: {s: quantizer.encode(v, SeededStream(1, cid, s)) for s, v in held.items()}
        for cid, held in floats.items()
    }
    return fleet, floats, quantizer


def played(fleet: Fleet, meter: Meter) -> Unmasked:
    """Play the round and meter it; the last ones never upload."""
    alive = names(CLIENTS)[:-ABSENT]
    server = meter.timed("key", fleet.server)
    for cid in alive:
        message = meter.timed("upload", lambda cid=cid: fleet.upload(cid))
        meter.sent("upload", message)
        server = meter.timed("server", lambda: server.receive(cid, message))  # noqa: B023
    server, requests = server.close()
    server = fleet.committed(server, requests, ())
    server, requests = meter.timed("server", server.close)
    for cid, request in requests.items():
        meter.sent("asked", request)
        answer = meter.timed("answer", lambda cid=cid, request=request: fleet.reveal(cid, request))
        meter.sent("answer", answer)
        server = server.receive(cid, answer)
    meter.bytes["asked_of"] = len(requests)
    if isinstance(fleet, CkksFleet):
        meter.sent("key", fleet.dealt)
    result = meter.timed("server", server.close)
    assert isinstance(result, Unmasked)
    return result


def error(
    result: Unmasked, floats: dict[str, dict[int, np.ndarray]], quantizer: Quantizer
) -> float:
    """Return the largest distance of an open sum's coordinate from the sum of the floats."""
    worst = 0.0
    for slot, part in result.sums.items():
        given = [floats[cid][slot] for cid in result.survivors if slot in floats[cid]]
        assert len(given) == part.contributors
        plain = np.sum(np.array(given, np.float64), axis=0)
        found = quantizer.decode_sum(part.total, part.contributors)
        worst = max(worst, float(np.abs(found - plain).max()))
    return worst


def measured(repeats: int = 1) -> tuple[dict[Scheme, Meter], dict[str, float]]:
    meters, results, facts = {}, {}, {}
    for scheme in (*Scheme,) * repeats:  # in turns, so that both meet the machine's moods
        fleet, floats, quantizer = party(scheme)
        meter = Meter()
        results[scheme] = played(fleet, meter)
        meters[scheme] = meter.best_of(meters.get(scheme))
        facts[scheme.value] = error(results[scheme], floats, quantizer)
        offered = fleet.join(names(CLIENTS)[0]).seat.graph.offered
        facts["values"] = sum(
            fleet.sizes[slot] for cid in names(CLIENTS)[:-ABSENT] for slot in offered[cid]
        )
    one, other = results[Scheme.MASKING], results[Scheme.CKKS]
    assert one.opened == other.opened
    facts["same"] = float(
        all(np.array_equal(one.sums[s].total, other.sums[s].total) for s in one.opened)
    )
    facts["opened"], facts["closed"] = len(one.opened), len(one.closed)
    return meters, facts


def rows() -> list[dict[str, object]]:
    """Return the error of the CKKS sums, and whether they are the masked ones to the bit."""
    _, facts = measured()
    return [
        {
            "name": "ckks_error",
            "ratio": facts["ckks"],
            "goal": ERROR_GOAL,
            "better": "lower",
            "ours": facts["ckks"],
            "peer": facts["masking"],
            "unit": "of the plain sum",
        },
        {
            "name": "ckks_equals_masking",
            "ratio": facts["same"],
            "goal": 1,
            "ours": facts["same"],
            "peer": 1,
            "unit": "yes",
        },
    ]


def table() -> str:
    """Return the measured part of docs/backends.md."""
    meters, facts = measured(repeats=REPEATS)
    lines = ["| | masking | ckks | ratio |", "|---|---|---|---|"]

    def line(what: str, figure: Callable[[Meter], float], digits: int = 0) -> None:
        one, other = (figure(meters[scheme]) for scheme in Scheme)
        ratio = f"{other / one:.1f}" if one else "–"
        lines.append(f"| {what} | {one:.{digits}f} | {other:.{digits}f} | {ratio} |")

    alive = CLIENTS - ABSENT
    line("beginning a round, keys included, ms", lambda m: 1000 * m.seconds["key"], 1)
    line("one upload, ms", lambda m: 1000 * m.seconds["upload"] / alive, 1)
    line("one answer, ms", lambda m: 1000 * m.seconds["answer"] / m.bytes["asked_of"], 1)
    line("server, the rest of the round, ms", lambda m: 1000 * m.seconds["server"], 1)
    line("upload, bytes a parameter", lambda m: m.bytes["upload"] / facts["values"], 2)
    line("keys, kB", lambda m: m.bytes["key"] / 1000)
    line("asked of one member, kB", lambda m: m.bytes["asked"] / m.bytes["asked_of"] / 1000)
    line("its answer, kB", lambda m: m.bytes["answer"] / m.bytes["asked_of"] / 1000)
    line("members asked", lambda m: m.bytes["asked_of"])
    lines.append(
        f"\n{facts['opened']:.0f} slots open, {facts['closed']:.0f} closed; largest error of a sum "
        f"{facts['masking']:.1e} and {facts['ckks']:.1e}; the same bits: {bool(facts['same'])}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
