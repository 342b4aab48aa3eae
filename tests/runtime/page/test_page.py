"""Pages: whole by themselves, stamped first, with the data behind every figure."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.cells.cell import Cell, play
from secure_pfnas.runtime.compare.bench import plan_cells
from secure_pfnas.runtime.compare.methods import parse_methods
from secure_pfnas.runtime.compare.report import write_report as write_comparison
from secure_pfnas.runtime.page import style
from secure_pfnas.runtime.page.source import page_of
from secure_pfnas.runtime.page.write import write_page
from secure_pfnas.runtime.sweep.points import plan_sweep
from secure_pfnas.runtime.sweep.report import write_report as write_sweep
from secure_pfnas.runtime.sweep.spending import foreseen
from tests.cli.conftest import images

TINY = [
    "data.alpha=100", "data.train_per_client=16", "data.validation_per_client=16",
    "data.test_per_client=8", "data.minimum_per_client=8", "federation.clients=7",
    "federation.cohort=7", "federation.rounds=2", "training.epochs=1",
    "privacy.reward_epsilon=60",
]  # fmt: skip
SWEEP = """
title = "<script>alert(1)</script> & more"
seeds = [5, 6]
[grid]
privacy.train_epsilon = [inf, 8.0]
privacy.reward_epsilon = [inf, 80, 60]
[[checks]]
what = "noise costs little"
loses_at_most = 1.0
point = { privacy.train_epsilon = inf, privacy.reward_epsilon = 80 }
against = { privacy.train_epsilon = inf, privacy.reward_epsilon = inf }
"""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """One method on one seed, run in this process; a run's folder is inside."""
    out = tmp_path_factory.mktemp("comparison")
    np.savez(out / "halves.npz", **images())
    given = [*TINY, f"data.source={out / 'halves.npz'}"]
    cells = plan_cells(None, given, parse_methods("ours"), [5], out)
    write_comparison(out, [play(one) for one in cells], "ours")
    return out


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, comparison):
    """Every cell but two, with results that were never run: the page does not look further."""
    out = tmp_path_factory.mktemp("sweep")
    (out / "sweep.toml").write_text(SWEEP)
    given = [*TINY, f"data.source={comparison / 'halves.npz'}"]
    plan = plan_sweep(out / "sweep.toml", given, out)
    results = [_told(cell, 0.8 - 0.01 * place) for place, cell in enumerate(plan.cells[:-2])]
    results.append(plan.cells[-1].write("FAILED", error="<b>no memory</b>"))
    write_sweep(out, plan, results, foreseen(plan.cells))
    return out


def _told(cell: Cell, accuracy: float) -> dict[str, object]:
    client = {"test": accuracy, "validation": accuracy}
    return cell.write(
        "COMPLETE", wall_s=1.0, cpu_s=1.0, train_s=0.5, bytes_up=10, bytes_down=20,
        data={"name": "halves", "digest": "ab" * 32},
        spent={"dev-000": {"validation": 2.0, "train": None, "delta": 1e-5}},
        rounds=[{"round": n, "steps": 1, "macs": 1, "test": accuracy - 0.1 / n} for n in (1, 2)],
        clients={"dev-000": {"as_is": client, "after": client, "parameters": 5}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory, comparison, sweep):
    """The three pages, by kind."""
    out = tmp_path_factory.mktemp("pages")
    run = next(comparison.glob("cells/*/*"))
    folders = {"run": run, "sweep": sweep, "comparison": comparison}
    return {kind: write_page(page_of(path), out / kind) for kind, path in folders.items()}


KINDS = ["run", "sweep", "comparison"]


class Outline(HTMLParser):
    """What a reader without eyes or script is given."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_by_itself_and_loads_nothing(pages, kind):
    text = pages[kind].read_text()
    tags = Outline(text).tags
    assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "img", "form"}
    assert [a.get("href") for tag, a in tags if tag == "link"] == ["data:,"]
    links = [a["href"] for tag, a in tags if tag == "a" and a.get("href")]
    assert all(re.fullmatch(r"#content|figures/[a-z0-9-]+\.(svg|pdf|csv)", link) for link in links)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stamp_is_the_first_thing_after_the_title(pages, kind):
    text = re.sub(r"<style>.*?</style>", "", pages[kind].read_text(), count=1, flags=re.DOTALL)
    assert text.index("NON-PRIVATE") < text.index('class="verdict') < text.index("<main")
    assert "noise and keys are seeded" in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_words_a_caption_and_its_data(pages, kind):
    figures = [a for tag, a in Outline(pages[kind].read_text()).tags if tag == "figure"]
    labelled = [a for tag, a in Outline(pages[kind].read_text()).tags if a.get("role") == "img"]
    assert len(figures) == len(labelled) >= 3
    assert all(a["aria-label"] for a in labelled)
    folder = pages[kind].parent / "figures"
    for figure in figures:
        name = figure["aria-labelledby"].removesuffix("-title")
        rows = list(csv.reader((folder / f"{name}.csv").open()))
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 1
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert b"</svg>" in (folder / f"{name}.svg").read_bytes()


def test_what_a_run_shows_is_what_its_records_say(pages, comparison):
    run, figures = next(comparison.glob("cells/*/*")), pages["run"].parent / "figures"
    names = {path.stem for path in figures.glob("*.csv")}
    assert names == {
        "accuracy-by-round", "accuracy-by-client", "architecture-map", "policy-moves", "budget",
        "reward-noise", "slot-coverage", "bytes", "time-by-phase",
    }  # fmt: skip
    metrics = [
        json.loads(line)
        for path in run.glob("devices/*/metrics.jsonl")
        for line in path.read_text().splitlines()
    ]
    last = [one["test_correct"] / one["test_size"] for one in metrics if one["round"] == 2]
    rows = list(csv.DictReader((figures / "accuracy-by-round.csv").open()))
    assert float(rows[-1]["mean"]) == pytest.approx(np.mean(last))
    budget = list(csv.DictReader((figures / "budget.csv").open()))
    assert budget[-1]["training_epsilon"] == "inf"
    assert 0 < float(budget[0]["validation_epsilon"]) < float(budget[1]["validation_epsilon"]) <= 60
    moved = list(csv.DictReader((figures / "policy-moves.csv").open()))
    assert sum(float(one["share"]) for one in moved if one["round"] == "1") == pytest.approx(13)


def test_a_sweep_shows_intervals_the_front_and_what_is_missing(pages, sweep):
    text = pages["sweep"].read_text()
    assert "10 of 12 cells complete, 1 failed" in text
    rows = list(
        csv.DictReader(
            (pages["sweep"].parent / "figures/accuracy-against-privacy-reward-epsilon.csv").open()
        )
    )
    assert {row["line"] for row in rows} == {"train ε ∞", "train ε 8"}
    told = {row["label"]: row for row in json.loads((sweep / "sweep.json").read_text())["points"]}
    assert told["train_epsilon ∞, reward_epsilon ∞"]["pareto"] is True
    alone = [row for row in rows if row["line"] == "train ε 8" and row["test_ci95"] == ""]
    assert len(alone) == 2  # of one seed each: no interval


def test_words_from_a_run_are_words_on_the_page(pages):
    text = pages["sweep"].read_text()
    assert "<script>" not in text
    assert "<b>no memory" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_the_same_records_give_the_same_bytes(pages, sweep, tmp_path):
    again = write_page(page_of(sweep), tmp_path)
    for path in pages["sweep"].parent.rglob("*.*"):
        twin = again.parent / path.relative_to(pages["sweep"].parent)
        assert twin.read_bytes() == path.read_bytes(), path


def _contrast(colour: str) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_every_colour_that_carries_words_stands_out_on_white(pages):
    words = {style.INK, style.MUTED, style.ALARM, *style.COLOURS}
    root = re.search(r":root \{(.*?)\}", pages["run"].read_text()).group(1)
    words |= {value for name, value in re.findall(r"--(\w+): (#\w+)", root) if name != "line"}
    assert {colour: _contrast(colour) for colour in words if _contrast(colour) < 4.5} == {}
    assert all(_contrast(c) >= 4.5 for c in style.STEPS[3:])  # white numbers on them


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("nothing", None, "holds no run, no sweep and no comparison"),
        ("sweep.json", "{", "is not JSON"),
        ("sweep.json", "{}", "not what this version writes"),
        ("comparison.json", "[]", "not what this version writes"),
    ],
)
def test_a_folder_without_results_is_one_clear_line(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=why) as refused:
        page_of(tmp_path)
    assert refused.value.code is ExitCode.STORAGE


def test_a_database_that_is_none_is_one_clear_line(tmp_path, comparison):
    run = next(comparison.glob("cells/*/*"))
    shutil.copytree(run, tmp_path / "run")
    for path in (tmp_path / "run").glob("run.sqlite*"):
        path.unlink()
    (tmp_path / "run" / "run.sqlite").write_bytes(b"no database, but long enough to be one" * 30)
    with pytest.raises(UserError, match=r"run\.sqlite: file is not a database"):
        page_of(tmp_path / "run")


CHROMIUM = shutil.which("chromium")
MEASURE = """<iframe id=f style="width:375px;height:800px;border:0" src="file://{page}"
onload="const d = f.contentDocument; const asked = f.contentWindow.performance
.getEntriesByType('resource').map(r => r.name); document.title = [
d.documentElement.scrollWidth, ...asked].join(' ')"></iframe>"""


def _seen(page, folder) -> tuple[int, list[str], str]:
    """Return a page's width in a frame as wide as a phone, what it asked for, and complaints."""
    (folder / "frame.html").write_text(MEASURE.format(page=page))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--allow-file-access-from-files",
            "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000", "--dump-dom", f"file://{folder / 'frame.html'}",
        ],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    width, *asked = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL).group(1).split()
    return int(width), asked, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@pytest.mark.chromium
@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
@pytest.mark.parametrize("kind", KINDS)
def test_chromium_says_nothing_asks_for_nothing_and_a_phone_need_not_scroll(pages, tmp_path, kind):
    width, asked, complaints = _seen(pages[kind], tmp_path)
    assert (asked, complaints) == ([], "")
    assert width <= 375


@pytest.mark.chromium
@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_chromium_would_see_a_request_a_complaint_and_too_much_width(pages, tmp_path):
    """The test above looks at the right place: planted faults are found, and not let through."""
    fault = '<p style="width:900px">wide</p><img src="figures/bytes.svg"><script>alert(1)</script>'
    planted = tmp_path / "index.html"
    planted.write_text(pages["run"].read_text().replace("<main", f"{fault}<main"))
    width, _, complaints = _seen(planted, tmp_path)
    assert width > 375
    assert complaints.count("Content Security Policy") == 2
