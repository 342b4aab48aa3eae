"""Real processes: the demo, a deployment by hand, and what becomes of them when one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import pytest

from secure_pfnas.cli.main import main
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.broker.mosquitto import find_binary
from secure_pfnas.runtime.children import Children

pytestmark = [pytest.mark.processes, pytest.mark.broker]
PROGRAM = [sys.executable, "-m", "secure_pfnas"]
PATIENCE_S = 60


@contextmanager
def process(*words, **options):
    child = subprocess.Popen([*PROGRAM, *map(str, words)], text=True, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_demo_trains_over_tls_while_a_device_dies(tmp_path, small):
    folder = tmp_path / "demo"
    source = next(word for word in small if word.startswith("data.source=")).partition("=")[2]
    words = ["demo", "--data", source, "--clients", "7", "--rounds", "2", "--out", folder, "--json"]
    done = subprocess.run(
        [*PROGRAM, *map(str, words), *small[2:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["outcome"] == "COMPLETE"
    assert (summary["rounds"], summary["clients"]) == (2, 7)
    assert summary["killed"] == "dev-002@1"
    assert summary["aggregation"]["dropped"] == 1
    assert summary["aggregation"]["rounds"][0]["survivors"] == 6
    assert summary["transport"] | {"bytes_up": 0, "bytes_down": 0, "messages": 0} == {
        "broker": "embedded",
        "tls": "1.3",
        "mutual": True,
        "bytes_up": 0,
        "bytes_down": 0,
        "messages": 0,
    }
    assert summary["transport"]["bytes_up"] > 10_000
    assert 0 < summary["accuracy"]["last"] <= 1
    assert summary["privacy"]["train_epsilon"] is None
    assert "round 1 of 2: COMPLETE, 6 of 7 devices" in done.stderr
    assert not left_behind(folder)


def left_behind(folder):
    """Return the processes that were started for a run and still live."""
    return [
        one.info["cmdline"]
        for one in psutil.process_iter(["cmdline", "status"])
        if str(folder) in " ".join(one.info["cmdline"] or [])
        and one.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture
def interruptible():
    """A shell's background job ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_demo_ends_it_leaves_no_process_behind(tmp_path, small, data, number):
    folder = tmp_path / "demo"
    words = ["demo", "--data", data, "--clients", 7, "--out", folder, *small[2:]]
    with process(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert wait_for((folder / "logs" / "host-2.err").exists)
        demo.send_signal(number)
        _, err = demo.communicate(timeout=PATIENCE_S)
    if number != signal.SIGKILL:
        assert demo.returncode == ExitCode.INTERRUPTED
        assert "error: interrupted" in err
        assert "Traceback" not in err
    assert wait_for(lambda: left_behind(folder) == [])


def test_a_child_that_fails_is_told_in_its_own_words(tmp_path):
    with Children(tmp_path) as children:
        children.start("server", ["config", "no-such.toml"])
        with pytest.raises(UserError) as failure:
            children.answer("server", PATIENCE_S)
    assert failure.value.code is ExitCode.CONFIG
    assert "the server process ended with exit code 3: no-such.toml" in failure.value.what
    assert "next" not in failure.value.todo


def test_a_child_that_says_nothing_is_not_waited_for(tmp_path):
    with Children(tmp_path) as children:
        children.start("doctor", ["--help"])
        children.wait(["doctor"], PATIENCE_S)
        with pytest.raises(UserError, match="said nothing"):
            children.answer("doctor", 0.1)


def test_a_deployment_survives_a_kill_of_its_server(tmp_path, small, space, arrays):
    certs, config, run, devices = (tmp_path / name for name in ("certs", "f.toml", "run", "fleet"))
    names = [f"dev-{index:03d}" for index in range(7)]
    assert main(["certs", "init", "--certs", str(certs)]) == 0
    for role, parties in (("server", ["server"]), ("broker", ["broker"]), ("device", names)):
        assert main(["certs", "issue", *parties, "--role", role, "--certs", str(certs)]) == 0
    effective = subprocess.run(
        [*PROGRAM, "config", *small, *space, "--set", "federation.rounds=3"],
        capture_output=True,
        check=True,
    )
    config.write_bytes(effective.stdout)
    with ExitStack() as stack:
        broker = stack.enter_context(
            process(
                "broker", "start", "--certs", certs, "--port", 0, "--json", stdout=subprocess.PIPE
            )
        )
        url = json.loads(broker.stdout.readline())["url"]
        common = (config, "--broker", url, "--certs", certs)
        fleet_words = ("--devices", "dev-000..dev-005", "--out", devices, "--json")
        fleet = stack.enter_context(
            process("client", *common, *fleet_words, stdout=subprocess.PIPE)
        )
        own = tmp_path / "own.npz"
        np.savez(own, **arrays | {"y_train": np.ones(400, int), "y_test": np.ones(80, int)})
        loner = stack.enter_context(
            process("client", *common, "--devices", "dev-006", "--data", own, "--out", devices)
        )
        first = stack.enter_context(process("server", *common, "--out", run))
        assert wait_for(lambda: len(observe.run(run).rounds) >= 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = stack.enter_context(
            process("server", *common, "--out", run, "--resume", "--json", stdout=subprocess.PIPE)
        )
        out, _ = second.communicate(timeout=2 * PATIENCE_S)
        summary = json.loads(out)
        assert second.returncode == 0
        assert summary["outcome"] == "COMPLETE"
        assert summary["accuracy"]["last"] is None
        said = json.loads(fleet.communicate(timeout=PATIENCE_S)[0])
        assert fleet.returncode == 0
        assert set(said["devices"]) == set(names[:-1])
        assert loner.wait(PATIENCE_S) == 0
        broker.terminate()
        assert broker.wait(PATIENCE_S) == 0
    released = {one.number for one in observe.run(run).rounds}
    ledger = observe.spent(devices / "devices" / "dev-000")
    assert released == {1, 2, 3}
    assert ledger is not None
    assert 0 < ledger.reward_epsilon <= 50


@pytest.mark.mosquitto
def test_mosquitto_is_started_from_a_party_folder_alone(tmp_path):
    if find_binary() is None:
        pytest.skip("the mosquitto binary is not installed")
    certs = tmp_path / "certs"
    assert main(["certs", "init", "--certs", str(certs), "--federation", "fleet"]) == 0
    assert main(["certs", "issue", "broker", "--role", "broker", "--certs", str(certs)]) == 0
    for key in ("ca.key.pem", "root.key.pem"):
        (certs / key).unlink()  # stay at the enrolment desk, and in the safe
    words = ["broker", "start", "--certs", certs, "--port", 0, "--engine", "mosquitto", "--json"]
    with process(*words, stdout=subprocess.PIPE) as broker:
        assert json.loads(broker.stdout.readline())["engine"] == "mosquitto"
        assert "fleet" in (certs / "broker" / "mosquitto" / "mosquitto.acl").read_text()
        broker.terminate()
        assert broker.wait(PATIENCE_S) == 0
    assert wait_for(lambda: left_behind(tmp_path) == [])


def test_a_party_enrols_at_a_desk_of_its_own_and_renews(tmp_path, capsys):
    office, home = tmp_path / "office", tmp_path / "home"
    assert main(["certs", "init", "--certs", str(office), "--federation", "clinic"]) == 0
    assert main(["certs", "issue", "desk", "--role", "desk", "--certs", str(office)]) == 0
    capsys.readouterr()
    assert main(["certs", "token", "dev-007", "--certs", str(office), "--json"]) == 0
    code = json.loads(capsys.readouterr().out)["code"]
    words = ["certs", "serve", "--certs", office, "--port", 0, "--json"]
    with process(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as desk:
        url = json.loads(desk.stdout.readline())["url"]
        enrol = ["certs", "enrol", code, "--desk", url, "--certs", str(home), "--json"]
        assert main(enrol) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["name"], said["role"]) == ("dev-007", "device")
        assert main(["certs", "roll-over", "--certs", str(office)]) == 0
        assert main(["certs", "renew", "dev-007", "--certs", str(home), "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["new"] is False
        bundle = (home / "dev-007" / "ca.pem").read_bytes()
        assert bundle == (office / "ca.pem").read_bytes()
        desk.terminate()
        assert desk.wait(PATIENCE_S) == 0
        errors = desk.stderr.read()
    assert "Traceback" not in errors
    assert code.split(".")[1] not in errors
    assert main(["certs", "renew", "desk", "--certs", str(office)]) == ExitCode.USAGE
    assert main(["certs", "renew", "dev-007", "--certs", str(home)]) == ExitCode.BROKER


def test_an_orphan_ends_itself(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from secure_pfnas.runtime.children import Children\n"
        f"children = Children(Path({str(tmp_path)!r})).__enter__()\n"
        "children.start('broker', ['broker', 'start', '--certs', sys.argv[1], '--port', '0'])\n"
        "time.sleep(60)\n"
    )
    certs = tmp_path / "certs"
    assert main(["certs", "init", "--certs", str(certs)]) == 0
    assert main(["certs", "issue", "broker", "--role", "broker", "--certs", str(certs)]) == 0
    parent = subprocess.Popen([sys.executable, "-c", code, str(certs)], env={**os.environ})
    try:
        output = tmp_path / "broker.out"
        assert wait_for(lambda: output.exists() and "listening" in output.read_text())
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: left_behind(tmp_path) == [])
