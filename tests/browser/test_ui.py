"""Prefect's UI as an operator uses it: a stage is started from its form, its artifacts are read, a schedule fires."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from artifacts.store import Artifact, Store
from flows.config import load_pipeline
from flows.registry import BY_NAME
from tasks.execution import execute
from tests.flows.test_pipeline import write_config
from tests.serving.service import Up
from tests.warcs import CRAWL, write_warc

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A service whose store has the documents of a small crawl, with an ingest due every minute."""
    folder = tmp_path_factory.mktemp("ui")
    write_warc(folder / "a.warc.gz", CRAWL, 40, 1, "crawl.example")
    schedules = [{"name": "every minute", "cron": "* * * * *", "stage": "ingest"}]
    later = dict.fromkeys(("quality", "decontaminate", "tokenize", "mix"))
    config = write_config(folder, name="small", schedules=schedules, **later)
    ingest = load_pipeline(config).config("ingest")
    execute(BY_NAME["ingest"].stage, ingest, {}, Store(folder / "store"))
    up = Up(folder, [config])
    try:
        yield up.wait()
    finally:
        up.kill_all()


def address(up: Up, path: str = "") -> str:
    return f"http://127.0.0.1:{up.port}/v2{path}"


def open_form(page: Any, up: Up, deployment: str) -> None:
    page.goto(address(up, "/deployments"))
    page.get_by_role("link", name=deployment, exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_label("Threshold (Optional)").wait_for()


def submit(page: Any) -> Any:
    """Press the form's button until the server answers: a press while the form still checks a field does nothing.

    Returns what it answered: the new run.
    """
    from playwright.sync_api import TimeoutError as NoAnswer

    for _ in range(6):
        with suppress(NoAnswer):
            with page.expect_response(re.compile("/create_flow_run$"), timeout=30_000) as answer:
                page.get_by_role("button", name="Submit").click()
            assert answer.value.status < 500, answer.value.text()
            return answer.value.json()
    raise AssertionError("the form was not sent")


def read_log(page: Any, line: str) -> None:
    """Wait for a line of an ended run's log. The page asks no more once the run has ended, also for late lines."""
    from playwright.sync_api import TimeoutError as NotYet

    for _ in range(6):
        with suppress(NotYet):
            page.get_by_text(re.compile(line)).first.wait_for(timeout=20_000)
            return
        page.reload()
    raise AssertionError(f"the log never says: {line}")


def open_artifact(page: Any, up: Up, key: str, run: str) -> None:
    """From the list of artifacts to the history of one, and there to what the newest run of that name has made."""
    page.goto(address(up, "/artifacts"))
    page.get_by_role("link", name=key).first.click()
    by = page.get_by_role("link", name=re.compile(f"^{run}")).first
    by.locator("xpath=preceding::a[contains(@href, '/artifacts/artifact/')][1]").click()


def dedups(up: Up) -> list[Artifact]:
    return Store(up.store).artifacts("dedup")


def test_a_bad_value_is_refused_with_its_field(service: Up, page: Any) -> None:
    open_form(page, service, "small-dedup")
    page.get_by_label("documents (Optional)").fill("ingest@nothing")
    submit(page)
    page.get_by_text("Validation failed for field 'inputs.documents'").wait_for()
    # The bounds of a number are the browser's own to hold: it says so at the field, and sends nothing.
    page.get_by_label("documents (Optional)").fill("latest")
    threshold = page.get_by_label("Threshold (Optional)")
    threshold.fill("7")
    assert threshold.evaluate("field => field.validationMessage") == "Value must be less than or equal to 1."
    page.get_by_role("button", name="Submit").click()
    assert threshold.evaluate("field => document.activeElement === field")
    assert dedups(service) == []
    assert page.elsewhere == []


def test_a_stage_started_from_its_form_and_what_it_shows(service: Up, page: Any) -> None:
    open_form(page, service, "small-dedup")
    page.get_by_label("Threshold (Optional)").fill("0.7")
    run = submit(page)
    # The message with its button "View run" goes by itself after some seconds.
    page.goto(address(service, f"/runs/flow-run/{run['id']}"))
    page.get_by_role("tab", name="Logs").wait_for()
    page.get_by_text(re.compile("^dedup of small ")).first.wait_for()
    page.get_by_text("Completed", exact=True).first.wait_for()
    (made,) = dedups(service)
    assert made.manifest.config["threshold"] == 0.7
    read_log(page, rf"{made.ref} built in .* s: 40 rows: {made.manifest.counts.kept} kept")

    assert page.get_by_text("Beginning flow run").count() == 1
    assert page.get_by_text("submitting flow run").count() == 0  # the worker's attempts are no line of the run's log
    ingest = made.manifest.inputs[0].artifact
    open_artifact(page, service, "lineage", "dedup of small ")
    graph = page.locator("svg[id^=mermaid]")
    graph.wait_for()
    drawn = graph.text_content()
    for name in ("a.warc.gz", f"ingest{ingest.partition('@')[2][:8]}", f"dedup{made.recipe[:8]}", "documents"):
        assert name in drawn

    open_artifact(page, service, "dedup-manifest", "dedup ")
    for field, value in (
        ("artifact", made.ref),
        ("path", made.path),
        ("input documents", ingest),
        ("content", made.manifest.content),
    ):
        page.get_by_role("row", name=f"{field} {value}", exact=True).wait_for()
    assert page.elsewhere == []


def test_a_cron_schedule_creates_runs(service: Up, page: Any) -> None:
    run, deadline = page.get_by_role("link", name=re.compile("^ingest of small ")), time.monotonic() + 300
    while not run.count() and time.monotonic() < deadline:
        page.goto(address(service, "/runs"))
        page.get_by_placeholder("Search by flow run name").wait_for()
        page.wait_for_timeout(2_000)
    run.last.click()
    page.wait_for_url("**/runs/flow-run/**")
    page.get_by_role("tab", name="Logs").wait_for()
    page.get_by_text("Completed", exact=True).first.wait_for()
    page.get_by_text("auto-scheduled", exact=True).first.wait_for()
    read_log(page, r"ingest@\w+ reused: 40 rows")
