"""The report page: verdict, table, timelines, what it says about a manager that never returned, and where it goes."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remanence.lab import report
from remanence.lab.axis import Linear, Log
from remanence.lab.chart import Band
from remanence.lab.errors import LabError
from remanence.lab.measurement import Comparison, Interval, Killing, ManagerRun, Percentiles, Verdict
from remanence.lab.outage_chart import timelines

VOID = {"meta"}


def interval(at_s: float, *, calls: int = 100, p50_ms: float | None = 1.0, depth: int | None = None) -> Interval:
    """Build one slice."""
    tail = None if p50_ms is None else p50_ms * 3
    return Interval(at_s, calls, 0, 0, 0, 0, p50_ms, tail, tail, depth, None)


ACCOUNT = Verdict(
    acknowledged=12_345,
    lost=0,
    failed_calls=3,
    unavailable_answers=4,
    degraded_reads=50,
    journaled=60,
    replayed=61,
    conflicts=7,
    slowest_call_s=1.52,
    recovery_s=1.31,
    latency_ms={"before": Percentiles(0.9, 4.1), "during": Percentiles(0.05, 0.4), "after": Percentiles(0.91, 4.2)},
    attempts_in_outage=37,
)
RESILIENT = ManagerRun("resilient", 4.0, (1.0, 2.0), 1.0, tuple(interval(float(i), depth=i) for i in range(4)), ACCOUNT)
HUNG = ManagerRun(
    "reference",
    4.0,
    (1.0, 2.0),
    1.0,
    (interval(0.0), *(interval(float(i), calls=0, p50_ms=None) for i in range(1, 4))),
    replace(
        ACCOUNT,
        acknowledged=5102,
        lost=31,
        slowest_call_s=None,
        recovery_s=None,
        latency_ms={"before": Percentiles(1.0, 3.0), "during": Percentiles(None, None)},
    ),
    unfinished=8,
)
BOTH = Comparison((RESILIENT, HUNG), "freeze", 8, 2, 120, 7, {"remanence": "0.1.0", "python": "3.11.2"})


class Page(HTMLParser):
    """Reads a page back: open elements must close in order, and texts are kept by element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes what was opened last."""
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        for tag in set(self.stack):
            self.words[tag] = self.words.get(tag, "") + data
        if {"td", "th"} & set(self.stack):
            self.rows[-1][-1] += data.replace("\u202f", " ")

    def row(self, label: str, nth: int = 0) -> list[str]:
        """Return the cells of the nth row with a label."""
        return [row[1:] for row in self.rows if row and row[0] == label][nth]


def pictures(page: str) -> list[ET.Element]:
    """Return every svg of the page, read as XML."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314 - our own


def test_the_first_sentence_is_the_verdict_of_every_manager() -> None:
    """The heading says what was lost, of how many, by whom, and what never returned."""
    assert Page(report.render(BOTH)).words["h1"].replace("\u202f", " ") == (
        "0 of 12 345 acknowledged memories lost by the resilient manager; "
        "the reference manager lost 31 of 5 102, and 8 calls never returned."
    )


@pytest.mark.parametrize(
    ("lost", "acknowledged", "badge"),
    [(0, 10, "✓ Nothing lost"), (2, 10, "✗ Memories lost"), (0, 0, "Nothing to judge")],
)
def test_no_loss_is_claimed_only_where_something_was_acknowledged(lost: int, acknowledged: int, badge: str) -> None:
    """The mark at the top tells kept, lost and unproven apart, in words."""
    run = replace(RESILIENT, verdict=replace(ACCOUNT, lost=lost, acknowledged=acknowledged))
    page = Page(report.render(replace(BOTH, runs=(run,))))
    assert badge in page.words["header"]
    assert ("so nothing could be lost" in page.words["h1"]) == (acknowledged == 0)


def test_the_table_has_every_figure_of_the_account() -> None:
    """Each question is a row, each manager a column; what never happened is a word, not a number."""
    page = Page(report.render(BOTH))
    assert page.rows[0] == ["", "resilient", "reference"]
    expected = {
        "Acknowledged": ["12 345", "5 102"],
        "Lost": ["✓ 0", "✗ 310.61 %"],
        "Conflict copies": ["7", "7"],
        "Failed calls": ["3", "38 never returned"],
        "“Nothing known”": ["4", "4"],
        "Degraded reads": ["50", "50"],
        "Journaled": ["60", "60"],
        "Replayed entries": ["61", "61"],
        "Slowest call": ["1.52 s", "never returned"],
        "Recovery": ["1.31 s", "did not recover"],
        "Attempts in the outage": ["37", "37"],
    }
    assert {label: page.row(label) for label in expected} == expected
    assert [page.row("during the outage", nth) for nth in (0, 1)] == [
        ["0.05 ms", "no call finished"],
        ["0.40 ms", "no call finished"],
    ]
    assert page.row("before", 1) == ["4.1 ms", "3.0 ms"]
    assert page.row("after") == ["0.91 ms", "no call finished"]


def test_every_row_is_explained() -> None:
    """Each label of the table has a sentence further down."""
    page = report.render(BOTH)
    terms = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    labels = {row[0] for row in Page(page).rows[1:] if len(row) > 1} - {"before", "during the outage", "after"}
    assert labels <= {term for term, sentence in terms if sentence.endswith(".")}


def test_headers_of_the_table_say_what_they_head() -> None:
    """Screen readers are told the scope of every header, and the language."""
    tags = Page(report.render(BOTH)).tags
    assert {attrs.get("scope") for tag, attrs in tags if tag == "th"} == {"col", "row", "rowgroup"}
    assert ("html", {"lang": "en"}) in tags


def test_without_an_outage_nothing_is_said_to_have_recovered() -> None:
    """A run without an outage has no recovery, no attempts in it, no shade, and says so."""
    run = replace(RESILIENT, outage=None, verdict=replace(ACCOUNT, recovery_s=None, latency_ms={}))
    text = report.render(replace(BOTH, runs=(run,)))
    page = Page(text)
    assert page.row("Recovery") == page.row("Attempts in the outage") == page.row("during the outage") == ["no outage"]
    assert page.row("before") == ["no call finished"]
    assert 'class="band outage"' not in text


def test_every_text_from_outside_is_escaped() -> None:
    """Names, versions and kinds of outage cannot become markup."""
    nasty = '<script>alert("1")</script>'
    hostile = replace(
        BOTH,
        runs=(replace(RESILIENT, name=nasty),),
        outage_kind=nasty,
        versions={nasty: nasty, "server": "7\x00\ud800"},
    )
    text = report.render(hostile)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5
    assert text.encode("utf-8")
    Page(text)


def test_the_page_needs_nothing_from_outside() -> None:
    """There is no script, no link and no address of another page or file."""
    text = report.render(BOTH)
    tags = Page(text).tags
    assert not {"script", "link", "img", "iframe", "base", "object"} & {tag for tag, _ in tags}
    assert not [attrs for _, attrs in tags if {"src", "href", "xlink:href", "srcset"} & set(attrs)]
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)


def test_every_manager_has_a_wide_a_medium_and_a_narrow_picture() -> None:
    """One timeline per manager and kind of page, one of which the style sheet shows at a time."""
    text = report.render(BOTH)
    assert [svg.get("class") for svg in pictures(text)] == ["chart wide", "chart medium", "chart narrow"] * 2
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for rule in ("max-width: 899px", "max-width: 619px", "prefers-color-scheme: dark", "@media print"):
        assert rule in text


def test_all_managers_share_their_seconds_and_scales() -> None:
    """The longest run and the largest values set the axes of every manager."""
    longer = replace(HUNG, duration_s=9.0)
    slow = replace(RESILIENT, timeline=(interval(0.0, calls=4000, p50_ms=2500.0, depth=70),))
    first, second = timelines(replace(BOTH, runs=(longer, slow)))
    assert (first.panels[0].axis, first.panels[1].axis) == (Linear(4000.0), Log(0, 4))
    assert first.until == second.until == 9.0
    assert [panel.axis for panel in first.panels] == [panel.axis for panel in second.panels]
    assert [panel.title for panel in first.panels] == [
        "Calls per second",
        "Latency, log scale",
        "Errors per second",
        "Writes waiting in the journal",
    ]


def test_a_manager_that_never_returned_is_shown_as_such() -> None:
    """The time from its last answer to the end is hatched and labelled; the silence has no latency."""
    [hung] = timelines(replace(BOTH, runs=(HUNG,)))
    assert hung.bands[1:] == (Band(1.0, 4.0, "no call returned\n8 still waiting at the end", "never"),)
    assert hung.panels[0].series[0].values == (100.0, 0.0, 0.0, 0.0)
    assert hung.panels[1].series[0].values == (1.0, None, None, None)
    assert "No call finished from 1\u202fs to 4\u202fs, when the run ended." in hung.description


def test_a_silence_before_further_answers_is_a_pause_even_if_a_call_hung() -> None:
    """Only the last silence can be that of calls that never returned."""
    run = replace(HUNG, timeline=(*HUNG.timeline[:2], interval(2.0), interval(3.0, calls=0, p50_ms=None)))
    assert [band.style for band in timelines(replace(BOTH, runs=(run,)))[0].bands] == ["outage", "pause", "never"]


def test_a_pause_that_ended_is_not_called_never() -> None:
    """Slices without a finished call are hatched as a pause where calls came back, and brief ones are left alone."""
    quiet = replace(
        HUNG,
        unfinished=0,
        verdict=ACCOUNT,
        timeline=(interval(0.0), interval(1.0, calls=0, p50_ms=None), interval(2.0)),
    )
    [shown] = timelines(replace(BOTH, runs=(quiet,)))
    assert shown.bands[1:] == (Band(1.0, 2.0, "no call finished", "pause"),)
    brief = replace(quiet, interval_s=0.5, timeline=tuple(replace(i, at_s=i.at_s / 2) for i in quiet.timeline))
    assert len(timelines(replace(BOTH, runs=(brief,)))[0].bands) == 1


def test_one_hung_worker_among_busy_ones_is_told_in_words() -> None:
    """Where other calls went on to the end there is no hatched silence, but the caption tells of the hung call."""
    run = replace(RESILIENT, unfinished=1, verdict=replace(ACCOUNT, slowest_call_s=None))
    comparison = replace(BOTH, runs=(run,))
    assert len(timelines(comparison)[0].bands) == 1
    assert "1 call never returned" in Page(report.render(comparison)).words["figcaption"]


def test_a_manager_without_a_journal_has_no_line_of_zeros() -> None:
    """No journal and an empty journal are different things."""
    empty = replace(RESILIENT, timeline=tuple(replace(i, journal_depth=0) for i in RESILIENT.timeline))
    with_journal, without = timelines(replace(BOTH, runs=(empty, HUNG)))
    assert with_journal.panels[3].series[0].values == (0.0, 0.0, 0.0, 0.0)
    assert (without.panels[3].series, without.panels[3].note) == ((), "no journal")


def test_a_slice_that_the_end_of_the_run_cut_short_counts_for_its_length() -> None:
    """The rate of a cut slice is over the time it had; one cut to less than half is left out."""
    cut = replace(RESILIENT, duration_s=3.5)
    assert timelines(replace(BOTH, runs=(cut,)))[0].panels[0].series[0].values == (100.0, 100.0, 100.0, 200.0)
    stump = replace(RESILIENT, duration_s=3.1)
    assert timelines(replace(BOTH, runs=(stump,)))[0].panels[0].series[0].values[-1] is None


def test_a_comparison_without_runs_says_so() -> None:
    """Nothing measured gives a page that claims nothing."""
    page = Page(report.render(replace(BOTH, runs=())))
    assert "No manager was run" in page.words["h1"]
    assert not page.rows


def test_managers_measured_differently_are_listed_apart() -> None:
    """One line tells how each run was measured where all were alike, else each has its own."""
    assert report.render(BOTH).count("<dt>Each run</dt>") == 1
    text = report.render(replace(BOTH, runs=(RESILIENT, replace(HUNG, duration_s=9.0))))
    assert "<dt>Run, resilient</dt>" in text
    assert "<dt>Run, reference</dt>" in text


def test_write_replaces_an_older_report(tmp_path: Path) -> None:
    """The file holds the page, in UTF-8."""
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    report.write(BOTH, target)
    assert target.read_text(encoding="utf-8") == report.render(BOTH)


def test_a_target_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    """A missing directory, a directory and a file in place of a directory are named, and nothing is created."""
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for target, problem in (
        (tmp_path / "missing" / "r.html", "missing is not a directory"),
        (tmp_path, "is a directory; name a file in it"),
        (tmp_path / "file" / "r.html", "file is not a directory"),
    ):
        for refuse in (report.check_target, lambda path: report.write(BOTH, path)):
            with pytest.raises(report.ReportTargetError, match=f"{problem}.*Nothing was written") as caught:
                refuse(target)
            assert isinstance(caught.value, LabError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_target_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says may not be written is refused; root may write everything, so the answer is made up."""
    existing = tmp_path / "existing.html"
    existing.touch()
    report.check_target(existing)
    report.check_target(tmp_path / "new.html")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(report.ReportTargetError, match="exists and may not be written"):
        report.check_target(existing)
    with pytest.raises(report.ReportTargetError, match="may not be written; name a file elsewhere"):
        report.check_target(tmp_path / "new.html")
    assert not (tmp_path / "new.html").exists()


counts = st.integers(0, 3) | st.integers(0, 10**6) | st.just(10**30)
floats = st.floats() | st.floats(0, 100) | st.sampled_from([0.0, 1e-9, 1e14, 1e300, math.nan, math.inf])
maybe = st.none() | floats
percentiles = st.builds(Percentiles, maybe, maybe)
intervals = st.builds(
    Interval, floats, counts, counts, counts, counts, counts, maybe, maybe, maybe, st.none() | counts, st.none()
)
verdicts = st.builds(
    Verdict, *[counts] * 8, maybe, maybe, st.dictionaries(st.sampled_from(["before", "during"]), percentiles), counts
)
runs = st.builds(
    ManagerRun,
    st.text(max_size=8),
    floats,
    st.none() | st.tuples(floats, floats),
    floats,
    st.lists(intervals, max_size=6).map(tuple),
    verdicts,
    counts,
)
comparisons = st.builds(
    Comparison,
    st.lists(runs, max_size=3).map(tuple),
    st.sampled_from(["kill", "freeze", "refuse", "external"]) | st.text(max_size=5),
    counts,
    counts,
    counts,
    st.integers(),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


@settings(max_examples=80, deadline=None)
@given(comparisons)
def test_any_comparison_gives_a_well_formed_page_with_finite_coordinates(comparison: Comparison) -> None:
    """Whatever was measured, elements nest, every picture is XML, and every coordinate is a number."""
    text = report.render(comparison)
    text.encode("utf-8")
    Page(text)
    svgs = pictures(text)
    assert len(svgs) == 3 * len(comparison.runs)
    for element in (element for svg in svgs for element in svg.iter()):
        for name in {"x", "y", "x1", "x2", "y1", "y2", "width", "height", "viewBox"} & set(element.keys()):
            assert all(math.isfinite(float(part)) for part in element.get(name, "").split())
        assert float(element.get("width", "0")) >= 0
        assert re.fullmatch(r"[MVHZv\d.\s-]*", element.get("d", ""))


KILLED = replace(RESILIENT, killing=Killing(1.2, 1.6, 2, 412, 37, 0))
FORGETFUL = replace(RESILIENT, name="memory-journal", killing=Killing(1.2, 1.6, 2, 390, None, 388))
EMPTY_HANDED = replace(RESILIENT, name="reference", killing=Killing(1.2, 1.6, 2, 0, None, 0))


def test_killed_workers_have_rows_and_a_mark_of_their_own() -> None:
    """What the dead had acknowledged, and what of it is lost, is told for each manager, and when they died."""
    comparison = replace(BOTH, runs=(KILLED, FORGETFUL, EMPTY_HANDED))
    text = report.render(comparison)
    page = Page(text)
    assert page.row("Acknowledged without Redis") == ["412", "390", "0"]
    assert page.row("Of these lost") == ["✓ 0", "✗ 388", "nothing to lose"]
    terms = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert {"Acknowledged without Redis", "Of these lost", "Workers"} <= terms.keys()
    assert "all workers were killed" in page.words["header"]
    for timeline in timelines(comparison):
        assert Band(1.2, 1.6, "workers killed", "never") in timeline.bands
        assert "All workers were killed at 1.2\u202fs; new ones were at work at 1.6\u202fs." in timeline.description


def test_workers_that_were_left_alone_are_not_spoken_of() -> None:
    """Without a killing the page has no word of one."""
    text = report.render(BOTH)
    assert not re.search(r"killed workers|workers killed|workers were killed|worker processes were killed", text)
    assert "Of these lost" not in text
