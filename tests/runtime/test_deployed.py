from __future__ import annotations

import json

from secure_pfnas.runtime.deployed import admitted, deployed
from secure_pfnas.runtime.observe import RoundSeen, RunSeen


def ended(number, *names):
    members = {name: [0] for name in names}
    return RoundSeen(number, 0, 1, members, "COMPLETE", "", tuple(names), (), ())


def device(folder, name, right):
    path = folder / "devices" / name
    path.mkdir(parents=True)
    lines = [
        {"round": n, "architecture": [0], "test_correct": c, "test_size": 10, "steps": 1}
        for n, c in right.items()
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_device_that_came_later_is_shown_before_and_after(tmp_path):
    seen = RunSeen((ended(1, "old", "lost"), ended(2, "old", "new"), ended(3, "old", "new")))
    devices = [
        device(tmp_path, "lost", {2: 5}),  # was asked in round 1 and did not answer
        device(tmp_path, "new", {2: 4, 3: 7}),
        device(tmp_path, "old", {1: 3, 2: 4, 3: 5}),
    ]
    assert admitted(seen, devices) == {"new": {"round": 2, "before": 0.4, "after": 0.7}}
    assert admitted(RunSeen(), devices[:1]) == {}


def test_before_the_first_checkpoint_nobody_deploys_anything(tmp_path):
    assert deployed(tmp_path, None, RunSeen()) == {}
    assert deployed(tmp_path, None, RunSeen((ended(1, "old"),))) == {}
