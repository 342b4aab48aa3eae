"""Cells: run, examined, killed, continued."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies.fixed import Fixed
from secure_pfnas.nas import subnet
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.cells import cell, pool
from secure_pfnas.runtime.cells.pool import Audience, Engine, LocalProcesses, run_cells
from secure_pfnas.runtime.checkpoints import Checkpoints
from secure_pfnas.runtime.compare.bench import plan_cells
from secure_pfnas.runtime.compare.methods import parse_methods
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.device_store import DeviceStore
from secure_pfnas.runtime.population import deal
from tests.cli.conftest import images

TINY = [
    "data.alpha=100",
    "data.train_per_client=16",
    "data.validation_per_client=10",
    "data.test_per_client=8",
    "data.minimum_per_client=8",
    "federation.clients=7",
    "federation.cohort=7",
    "federation.rounds=2",
    "training.epochs=1",
    "privacy.reward_noise=false",
    "secagg.masking=false",
]


class Heard(Audience):
    """Keeps what it is told."""

    def __init__(self):
        self.results, self.kept = [], 0

    def ended(self, result, *, kept):
        self.results.append(result)
        self.kept += kept


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(path, **images())
    return [*TINY, f"data.source={path}"]


@pytest.fixture(scope="module")
def played(tmp_path_factory, tiny):
    """Three methods on one seed, in this process."""
    out = tmp_path_factory.mktemp("comparison")
    methods = parse_methods("ours,fedbabu,local")
    cells = plan_cells(None, tiny, methods, [5], out)
    return {one.label: (one, cell.play(one)) for one in cells}


def test_every_cell_is_a_run_folder_and_stamped(played):
    for one, result in played.values():
        assert {"config.toml", "run.sqlite", "devices", "cell.json"} <= {
            path.name for path in one.folder.iterdir()
        }
        assert result["status"] == "COMPLETE"
        assert "noise and keys are seeded" in result["non_private"]
        assert result["data"]["digest"]


def test_methods_share_the_partition_and_the_steps(played):
    sizes = [
        {name: client["train_size"] for name, client in result["clients"].items()}
        for _, result in played.values()
    ]
    assert sizes[0] == sizes[1] == sizes[2]
    assert len({result["steps"] for _, result in played.values()}) == 1
    parts = [deal(one.settings, load(one.settings.data.source)) for one, _ in played.values()]
    for name in parts[0]:
        assert len({part[name].x_train.tobytes() for part in parts}) == 1


def test_as_it_is_is_the_servers_last_model_with_the_devices_own_parts(played):
    """Counted again by hand, from the checkpoint and a device's folder."""
    one, result = played["fedbabu"]
    terms = Federation.of(one.settings)
    layout = terms.layout
    stored = Checkpoints(one.folder / "checkpoints", layout.digest, layout.length).latest(2)
    own = deal(one.settings, load(one.settings.data.source))["dev-003"]
    with DeviceStore(one.folder / "devices" / "dev-003") as store:
        personal = store.memory().personal
    vector = stored.vector.copy()
    subnet.scatter(layout, personal, terms.personal_slots, vector)
    client = result["clients"]["dev-003"]
    module = subnet.extract(layout, vector, tuple(client["architecture"])).eval()
    import torch  # noqa: PLC0415

    guess = module(torch.tensor(own.x_test)).argmax(1).numpy()
    assert client["as_is"]["test"] == np.mean(guess == own.y_test)


def test_babu_is_tuned_as_a_whole_and_its_head_is_nobodys_until_then(played):
    one, _ = played["fedbabu"]
    terms = Federation.of(one.settings)
    with DeviceStore(one.folder / "devices" / "dev-000") as store:
        assert np.array_equal(store.memory().personal, terms.initial_personal)


def test_a_rounds_time_is_its_slowest_devices(played):
    _, result = played["local"]
    client = max(result["clients"].values(), key=lambda known: known["train_size"])
    macs = 3 * client["macs"] * client["train_size"]
    assert [row["device_s"] for row in result["rounds"]] == [macs / 1e9] * 2


def test_local_training_sends_no_parameters(played):
    assert played["local"][1]["bytes_up"] < 0.3 * played["fedbabu"][1]["bytes_up"]
    assert played["local"][1]["macs"] == played["fedbabu"][1]["macs"]


def test_a_cell_is_a_function_of_its_settings(played, tmp_path, tiny):
    _, first = played["ours"]
    again = cell.play(plan_cells(None, tiny, parse_methods("ours"), [5], tmp_path)[0])
    for name in ("clients", "rounds", "steps", "macs"):
        assert again[name] == first[name]


def test_what_is_complete_is_not_done_again(played, monkeypatch):
    monkeypatch.setattr(cell, "simulate", None)
    one, result = played["ours"]
    assert cell.play(one) == result


def test_what_is_trained_is_examined_and_not_trained_again(played, monkeypatch):
    monkeypatch.setattr(cell, "simulate", None)
    one, result = played["local"]
    kept = ("wall_s", "train_s", "cpu_s", "bytes_up", "bytes_down", "peak_mb", "received")
    one.write("TRAINED", **{name: result[name] for name in kept})
    assert cell.play(one) == result


def test_an_interrupted_run_begins_anew(played, tiny, tmp_path):
    one = plan_cells(None, tiny, parse_methods("local"), [5], tmp_path)[0]
    one.folder.mkdir(parents=True)
    (one.folder / "config.toml").write_text("half a run")
    assert cell.play(one)["clients"] == played["local"][1]["clients"]


def test_a_cell_of_other_settings_is_refused_not_replaced(played, tiny, tmp_path):
    one, _ = played["local"]
    out = one.folder.parents[2]
    other = plan_cells(None, [*tiny, "training.epochs=2"], parse_methods("local"), [5], out)[0]
    assert other.folder == one.folder
    with pytest.raises(UserError, match=r"cell\.json: was run under other settings") as refused:
        run_cells([other], out, LocalProcesses(1), resume=True, audience=Heard())
    assert refused.value.code is ExitCode.CONFIG
    assert one.result["status"] == "COMPLETE"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda text: text.replace('"COMPLETE"', '"TRAINED"'), "is not as it was written"),
        (lambda text: text[: len(text) // 2], "is not as it was written"),
        (lambda text: "[1]", "is not as it was written"),
    ],
)
def test_an_altered_or_half_cell_is_refused_and_named(tiny, tmp_path, spoil, why):
    one = plan_cells(None, tiny, parse_methods("local"), [5], tmp_path)[0]
    (one.folder / "config.toml").parent.mkdir(parents=True)
    (one.folder / "config.toml").touch()
    one.write("COMPLETE", clients={})
    path = one.folder / "cell.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UserError, match=why) as refused:
        run_cells([one], tmp_path, LocalProcesses(1), resume=True, audience=Heard())
    assert refused.value.code is ExitCode.STORAGE
    assert str(one.folder) in refused.value.todo


def test_a_cell_whose_run_is_gone_is_not_taken_for_whole(tiny, tmp_path):
    one = plan_cells(None, tiny, parse_methods("local"), [5], tmp_path)[0]
    one.write("COMPLETE", clients={})
    with pytest.raises(UserError, match="has lost its run"):
        _ = one.result


def test_a_full_disk_stops_the_rest_and_says_so_once(tiny, tmp_path, monkeypatch):
    cells = plan_cells(None, tiny, parse_methods("local,fedper"), [5], tmp_path)

    class FullDisk(Engine):
        def run(self, given, audience):
            for one in given:
                one.write("FAILED", error="/x: No space left on device", todo="free some", code=8)
                pool.tell(one, "", audience)

    heard = Heard()
    with pytest.raises(UserError, match="No space left") as refused:
        run_cells(cells, tmp_path, FullDisk(), resume=False, audience=heard)
    assert refused.value.code is ExitCode.STORAGE
    assert "continue with --resume" in refused.value.todo
    assert len(heard.results) == 1


@pytest.mark.processes
def test_a_cell_that_needs_more_memory_than_it_may_have_fails_alone(tiny, tmp_path):
    cells = plan_cells(None, tiny, parse_methods("local"), [5], tmp_path)
    heard = Heard()
    run_cells(cells, tmp_path, LocalProcesses(1, memory_mb=64), resume=False, audience=heard)
    assert [one["status"] for one in heard.results] == ["FAILED"]
    assert "more than the 64 MB of memory it may have" in heard.results[0]["error"]


def test_a_folder_is_not_taken_over_without_resume(played, tiny):
    one, _ = played["local"]
    with pytest.raises(UserError, match="holds results already"):
        run_cells([one], one.folder.parents[2], LocalProcesses(1), resume=False, audience=Heard())


def test_a_run_whose_rounds_abort_has_failed(tiny, tmp_path, monkeypatch):
    one = plan_cells(None, [*tiny, "federation.rounds=1"], parse_methods("fedper"), [5], tmp_path)

    def nobody(*_: object, **__: object):
        raise CoverageError("nobody")

    monkeypatch.setattr(Fixed, "assign", nobody)
    result = cell.play(one[0])
    assert result["status"] == "FAILED"
    assert "1 of 1 rounds aborted" in result["error"]


@pytest.mark.parametrize("name", ["fedper", "static_nested"])
def test_caps_that_a_fixed_net_breaks_are_one_clear_line(tiny, tmp_path, name):
    large = 'training.architectures=["1-1-1-1-1-1-1-1-1-1-1-1-1"]'
    given = [*tiny, large, "devices.micro.share=0.5", "devices.micro.max_parameters=9000"]
    with pytest.raises(UserError, match=r"dev-\d+ can.*run.*caps are tighter") as refused:
        plan_cells(None, given, parse_methods(name), [5], tmp_path)
    assert refused.value.code is ExitCode.CONFIG


def test_fedtp_runs_unmasked_and_says_so(tiny, tmp_path):
    given = [*tiny, "space.name=compact_vit"]
    one, plain = plan_cells(None, given, parse_methods("fedtp,fedavg"), [5], tmp_path)
    result = cell.play(one)
    assert result["status"] == "COMPLETE"
    assert "fedtp shows the server each device's own update" in result["non_private"]
    assert not any("fedtp" in why for why in plain.settings.non_private)
    assert result["steps"] == cell.play(plain)["steps"]
    assert not (one.folder / "run.sqlite").exists()
    some = [*given, "federation.clients=8"]
    fewer = plan_cells(None, some, parse_methods("fedtp"), [5], tmp_path / "fewer")[0]
    with pytest.raises(UserError, match="cohort is 7 of 8; fedtp asks all"):
        cell.play(fewer)


@pytest.mark.processes
def test_a_cell_that_is_killed_or_fails_costs_no_other(tiny, tmp_path, monkeypatch):
    """The first is killed, the second's data is gone, the third comes through, once."""
    cells = plan_cells(None, tiny, parse_methods("fedper,fedavg,local"), [5], tmp_path)
    start, heard = pool._start, Heard()

    def killed(one, memory_mb):
        process = start(one, memory_mb)
        if one.label == "fedper":
            os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(pool, "_start", killed)
    source = cells[0].settings.data.source
    hidden = f"{source}.hidden"
    gone = cells[1].settings.model_copy(
        update={"data": cells[1].settings.data.model_copy(update={"source": hidden})}
    )
    broken = [cells[0], cell.Cell("fedavg", 5, gone, cells[1].folder), cells[2]]
    run_cells(broken, tmp_path, LocalProcesses(1), resume=False, audience=heard)
    told = heard.results
    assert [one["status"] for one in told] == ["FAILED", "FAILED", "COMPLETE"]
    assert "exit code -9" in told[0]["error"]
    assert "no such file" in told[1]["error"]
    kept = (cells[2].folder / "cell.json").stat().st_mtime_ns
    again = Heard()
    monkeypatch.setattr(pool, "_start", lambda *_: pytest.fail("run twice"))
    run_cells(cells[2:], tmp_path, LocalProcesses(2), resume=True, audience=again)
    assert [(one["label"], one["status"]) for one in again.results] == [("local", "COMPLETE")]
    assert (cells[2].folder / "cell.json").stat().st_mtime_ns == kept
