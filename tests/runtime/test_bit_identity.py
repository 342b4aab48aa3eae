"""The same settings and seed, simulated and over TLS: the same bits."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from safetensors.numpy import load_file

from secure_pfnas.config import load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.cells.examine import examine
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.device_store import read_metrics
from secure_pfnas.runtime.faults import ScriptedFaults, parse_moments
from secure_pfnas.runtime.federate import deploy, embedded, simulate
from secure_pfnas.runtime.population import deal, device_names, resolved
from secure_pfnas.runtime.summary import SIMULATED
from secure_pfnas.runtime.summary import summarise as run_summary
from secure_pfnas.runtime.workers import InlineWorkers

KILLED = "dev-003"
OVERRIDES = (
    "federation.clients=10",
    "federation.cohort=10",
    "federation.rounds=3",
    "federation.seed=5",
    "data.source=digits",
    "data.alpha=1.0",
    "data.train_per_client=64",
    "data.validation_per_client=48",
    "data.test_per_client=24",
    "data.minimum_per_client=8",
    "privacy.seeded_noise=true",
    "privacy.reward_epsilon=20.0",
)


def faults() -> ScriptedFaults:
    return ScriptedFaults(fatal=parse_moments([f"{KILLED}@2:report"]))


def rows(folder, statement: str) -> list[tuple]:
    database = sqlite3.connect(folder / "run.sqlite")
    found = database.execute(statement).fetchall()
    database.close()
    return found


@pytest.mark.broker
def test_devices_that_choose_for_themselves_do_so_alike_too(tmp_path):
    """Simulated and deployed, each device's search ends in the same bits, and nothing is lost."""
    own = ("agent.placement=client", "federation.rounds=2", "agent.deviation=1.0")
    settings = load_settings(None, [*OVERRIDES, *own, "data.train_per_client=24"])
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    federation = Federation.of(settings)
    workers = InlineWorkers(deal(settings, dataset))
    one, other = tmp_path / "simulated", tmp_path / "deployed"
    assert simulate(federation, one, workers) == Complete()
    with embedded(federation, other) as bus:
        assert deploy(federation, other, workers, bus) == Complete()
    assert rows(other, "SELECT * FROM releases") == []
    name = "checkpoints/round-000002.safetensors"
    assert load_file(one / name).keys() == load_file(other / name).keys() == {"supernet"}
    assert np.array_equal(*(load_file(run / name)["supernet"] for run in (one, other)))
    tried = set()
    for name in device_names(10):
        homes = one / "devices" / name, other / "devices" / name
        found = [load_file(home / "search.safetensors") for home in homes]
        assert found[0].keys() == found[1].keys() >= {"deployed", "personal"}
        assert all(found[0][key].tobytes() == found[1][key].tobytes() for key in found[0])
        assert read_metrics(homes[0]) == read_metrics(homes[1])
        tried |= {tuple(line["architecture"]) for line in read_metrics(homes[0])}
    assert len(tried) > 10
    for run in (one, other):
        deployed = run_summary(run, dataset=None, transport=SIMULATED, wall_s=0)["deployed"]
        assert deployed.keys() == set(device_names(10))
    name = max(deployed, key=lambda cid: sum(deployed[cid]))
    (examined,) = examine(federation, one, {name: deal(settings, dataset)[name]}).values()
    assert examined["architecture"] == deployed[name]


@pytest.mark.broker
def test_simulated_and_deployed_runs_end_in_the_same_bits(tmp_path):
    settings = load_settings(None, OVERRIDES)
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    federation = Federation.of(settings)
    workers = InlineWorkers(deal(settings, dataset))
    one, other = tmp_path / "simulated", tmp_path / "deployed"

    assert simulate(federation, one, workers, faults=faults()) == Complete()
    with embedded(federation, other) as bus:
        assert deploy(federation, other, workers, bus, device_faults=faults()) == Complete()

    facts = "SELECT round, members, outcome, survivors, opened, closed FROM rounds"
    assert rows(one, facts) == rows(other, facts)
    survivors = [json.loads(row[3]) for row in rows(other, facts)]
    assert [KILLED in names for names in survivors] == [True, False, False]
    released = "SELECT round, name, value, reward FROM releases ORDER BY round, name"
    assert rows(one, released) == rows(other, released)
    for number in (1, 2, 3):
        name = f"checkpoints/round-{number:06d}.safetensors"
        simulated, deployed = load_file(one / name), load_file(other / name)
        assert simulated.keys() == deployed.keys()
        assert len(simulated) > 10  # the supernet, and the agents that learned
        for tensor in simulated:
            assert simulated[tensor].tobytes() == deployed[tensor].tobytes(), tensor
    first, last = (load_file(one / f"checkpoints/round-00000{n}.safetensors") for n in (1, 3))
    assert not np.array_equal(first["supernet"], last["supernet"])
    for name in device_names(10):
        homes = one / "devices" / name, other / "devices" / name
        personal = [load_file(home / "personal.safetensors")["personal"] for home in homes]
        assert personal[0].tobytes() == personal[1].tobytes()
        assert read_metrics(homes[0]) == read_metrics(homes[1])
