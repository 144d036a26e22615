"""The page of a run in a browser: without errors, offline, on desktop and phone, light and dark, and fast."""

import base64
import json
import re
import shutil
import time
from urllib.parse import urlparse

import pytest
import report_toys

from agents.report import write_report
from agents.tracking.episode_records import recorded
from agents.tracking.run_record import read_record, record_start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium with chromedriver here (.ci/install_chromium)"
)

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
PHONE, DESK = (390, 844), (1280, 900)
MANY = 500
"""Number of problems of a run with 1,000 recorded episodes in two evaluations."""


class Browser:
    """Page in Chromium, with its console messages and requests."""

    def __init__(self, profile):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.send("Network.enable")
        self.send("Performance.enable", timeDomain="threadTicks")
        self.send(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def send(self, command, **options):
        return self.driver.execute_cdp_cmd(command, options)

    def open(self, path, size=DESK, scheme="light"):
        """Open a page and wait until it is ready."""
        self.messages()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.driver.get(path.as_uri())
        # The driver may return before a page of another process is ready.
        deadline = time.monotonic() + 20
        while self.js("return document.documentElement.dataset.ready") != "true":
            assert time.monotonic() < deadline, self.messages()
            time.sleep(0.05)

    def busy(self):
        """Return the CPU seconds of the page's thread, which do not depend on the load of the machine."""
        metrics = {metric["name"]: metric["value"] for metric in self.send("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector="body"):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def messages(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Return the URLs of all requests since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
        return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of each kind of episode, and a page that compares runs."""
    root = tmp_path_factory.mktemp("runs")
    folders = {name: make(root / name) for name, make in report_toys.RUNS.items()}
    found = {name: root / f"{name}.html" for name in folders}
    for name, folder in folders.items():
        write_report([folder], found[name])
    found["comparison"] = root / "comparison.html"
    write_report([folders[name] for name in ("sokoban", "sudoku", "plan_path")], found["comparison"])
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", [*report_toys.RUNS, "comparison"])
def test_page_fits_and_makes_no_request_and_no_error(browser, pages, kind, size, scheme):
    browser.requests()
    browser.open(pages[kind], size, scheme)
    for place in range(3):
        browser.js("document.querySelectorAll('.row')[arguments[0]].click()", place)
    for part in browser.all("details"):
        browser.js("arguments[0].open = true", part)
    browser.js("return new Promise(requestAnimationFrame)")
    assert browser.all(".panel .chart")
    assert browser.messages() == []
    assert {urlparse(url).scheme for url in browser.requests()} <= {"file", "data"}
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    dark = browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("kind", ["math", "tree"])
def test_phone_shows_every_column_without_swiping_sideways(browser, pages, kind):
    browser.open(pages[kind], PHONE)
    sides = browser.js(
        "return [...document.querySelectorAll('.episode')].map((side) => {"
        "const box = side.getBoundingClientRect(); return [box.left, box.right, box.top + scrollY]; })"
    )
    assert len(sides) == 2
    assert all(0 <= left < right <= PHONE[0] for left, right, _ in sides)
    assert sides[0][2] < sides[1][2]
    table = browser.js(
        "const t = document.querySelector('#evaluations .scroll'); return [t.scrollWidth, t.clientWidth]"
    )
    browser.js("document.querySelector('#evaluations .scroll').scrollLeft = 9999")
    last = "return document.querySelector('#evaluations th:last-child').getBoundingClientRect().right"
    assert browser.js(last) <= PHONE[0]
    assert table[1] <= PHONE[0]


def test_curves_that_never_change_are_folded(browser, tmp_path):
    rows = [{"step": s, "reward": s / 9, "loss": 0.0, "kl": 0.5, "entropy": 1 / s} for s in range(1, 10)]
    browser.open(made_up(tmp_path, rows))
    titles = [part.text for part in browser.all(".panels > .panel b")]
    assert titles == ["Reward per episode", "Entropy (nats per token or action)"]
    assert "Metrics that never changed (2)" in [part.text for part in browser.all("summary")]


def test_head_shows_command_date_and_versions(browser, tmp_path):
    made_up(tmp_path, [{"step": 1, "reward": 0.5}])
    record_start(tmp_path / "run", "python -m agents.train steps=3", resuming=False)
    write_report([tmp_path / "run"], tmp_path / "run.html")
    browser.open(tmp_path / "run.html")
    head = browser.text("header")
    assert "python -m agents.train steps=3" in head
    year = read_record(tmp_path / "run")["starts"][0]["time"][:4]
    assert re.search(rf"{year}-\d\d-\d\d \d\d:\d\d · reason_envs \S+ · torch \S+ · transformers \S+ · python ", head)


def test_tree_responds_to_clicks(browser, pages):
    browser.open(pages["tree"])
    episode = ".episode:last-child"
    nodes = browser.all(f"{episode} .node")
    chosen = browser.all(f"{episode} .edge.chosen")
    assert len(nodes) > 5
    assert len(browser.all(f"{episode} .step:not(.onward)")) == len(chosen) + 1
    browser.js("arguments[0].dispatchEvent(new MouseEvent('click'))", nodes[0])
    assert "The problem" in browser.text(f"{episode} .step.selected")
    onward = browser.all(f"{episode} .step.onward")
    assert onward
    browser.js("arguments[0].click()", onward[-1])
    assert len(browser.all(f"{episode} .step:not(.onward)")) == 2
    assert "value" in browser.text(f"{episode} .steps p")
    slider = browser.all(f"{episode} input[type=range]")[0]
    browser.js("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert len(browser.all(f"{episode} .node")) == 2
    assert browser.text(f"{episode} .replay span").startswith("1 / ")


def test_tree_responds_to_keys(browser, pages):
    browser.open(pages["tree"])
    (root, *_) = browser.all(".episode:last-child .node")
    browser.js("arguments[0].focus()", root)
    browser.driver.switch_to.active_element.send_keys(" ")
    assert browser.js("return document.activeElement.getAttribute('aria-label')") == "the problem"
    assert "The problem" in browser.text(".episode:last-child .step.selected")
    browser.js("arguments[0].focus()", browser.all(".episode:last-child .step.onward")[0])
    browser.driver.switch_to.active_element.send_keys("\n")
    assert browser.js("return document.activeElement.matches('.step.selected')")


def test_evaluation_is_selected_by_keys(browser, pages):
    from selenium.webdriver import Keys

    browser.open(pages["math"])
    browser.js("arguments[0].focus()", browser.all(".episode:last-child select")[0])
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_UP)
    assert [select.get_attribute("value") for select in browser.all(".episode select")] == ["0", "0"]
    assert browser.js("return document.activeElement.matches('.episode:last-child select')")


def test_large_tree_stays_legible_and_scrolls_to_the_selected_node(browser, tmp_path):
    nodes = [{"parent": max(0, (i - 1) // 4), "text": f"s{i}", "score": 0.5, "tokens": 1} for i in range(150)]
    nodes[0]["parent"] = -1
    episode = {"task": "t", "question": "q", "correct": 1.0, "tree": {"nodes": nodes, "current": 149}}
    page = made_up(tmp_path, [], [{"step": 0, "correct": [1.0], "episodes": [episode]}])
    browser.open(page, PHONE)
    browser.js("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    size = browser.js("return document.querySelector('.node').getBoundingClientRect().width")
    assert size > 16
    frame, chosen = (browser.all(selector)[0].rect for selector in (".map", ".node.selected"))
    assert frame["x"] <= chosen["x"] <= frame["x"] + frame["width"]
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")


def test_curves_have_axis_titles_and_complete_numbers(browser, tmp_path):
    rows = [{"step": i, "reward": 1e-9 * i, "loss": -12345.6 * i, "accuracy": 0.5 + i / 1e4} for i in range(1, 5)]
    browser.open(made_up(tmp_path, rows))
    for chart in browser.all(".panel .chart"):
        assert chart.find_element("css selector", ".axis").text == "step"
        inside = browser.js(
            "const all = [...arguments[0].querySelectorAll('text')].map((t) => [t.getBBox().x, t.textContent]);"
            "return all.filter(([x, text]) => x < 0)",
            chart,
        )
        assert inside == []
        labels = [t.text for t in chart.find_elements("css selector", "text[text-anchor=end]")]
        assert len(set(labels)) == len(labels) > 1


def test_curves_respond_to_keys(browser, pages):
    from selenium.webdriver import Keys

    browser.open(pages["math"])
    chart = browser.all(".panel .chart")[0]
    browser.js("arguments[0].focus()", chart)
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        browser.driver.switch_to.active_element.send_keys(key)
    assert "100.0 % · step 30" in browser.text(".panel .readout")


def test_single_evaluation_shows_its_interval(browser, tmp_path):
    row = {"step": 0, "eval/accuracy": 0.5, "eval/accuracy_low": 0.4, "eval/accuracy_high": 0.6}
    browser.open(made_up(tmp_path, [row]))
    assert browser.all(".panel .chart .bar")


def made_up(folder, rows, evaluations=()):
    """Write the page of a run with these metrics and evaluations."""
    (folder / "run" / "validate").mkdir(parents=True)
    (folder / "run" / "config.yaml").write_text("env: {name: toy}\nsteps: 60\n")
    (folder / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for evaluation in evaluations:
        (folder / "run" / "validate" / f"step_{evaluation['step']}.json").write_text(json.dumps(evaluation))
    write_report([folder / "run"], folder / "run.html")
    return folder / "run.html"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "has not finished a training step"),
        ([{"step": 0, "eval/accuracy": 0.25}], "25.0 %at step 0"),
        ([{"step": 0, "eval/accuracy": 0.2}, {"step": 7, "eval/accuracy": 0.5}], "7 of 60 steps"),
        ([{"step": 1, "loss": None, "kl": 1.0}], "1 value not finite"),
        ([{"step": 1, "accuracy": 0.9, "candidate_reward": 0.5}], "continues from a selected candidate"),
    ],
    ids=["empty", "crashed after one evaluation", "bare evaluations", "not finite", "turn tree"],
)
def test_page_of_an_incomplete_run_explains_it(browser, tmp_path, rows, expected):
    browser.open(made_up(tmp_path, rows))
    assert expected in browser.text("main")
    assert browser.messages() == []


def test_page_shows_before_and_after_side_by_side(browser, pages):
    browser.open(pages["sokoban"])
    left, right = browser.all(".episode")
    assert left.rect["y"] == right.rect["y"]
    assert left.rect["x"] < right.rect["x"]
    assert [side.find_element("css selector", ".verdict").text for side in (left, right)] == ["× wrong", "✓ correct"]
    assert len(browser.all(".episode:last-child .crate.done")) == 1
    agents = {header.text for header in browser.all(".episode:last-child .turn header b")}
    assert agents == {"tool", "planner"}


def test_page_shows_calls_of_workflows_and_solvers(browser, pages):
    browser.open(pages["workflow"])
    assert [call.text.split("\n")[0] for call in browser.all(".call summary b")] == ["1. Custom", "2. Revise"]
    browser.open(pages["planner"])
    assert "Add them up." in browser.text(".episode:last-child .call")


def test_response_stays_text(browser, pages):
    browser.open(pages["math"])
    assert browser.text(".episode .response") == report_toys.HOSTILE
    assert browser.driver.title == "Run math"
    assert browser.all("main img, main script, main .response b") == []


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize(
    "text", ["A" * 3000, "z\u0336a\u0337" * 300, "\u202e turned \u0645", "🙂漢" * 200, "\x00\x1b[31m"]
)
def test_page_fits_with_any_text(browser, tmp_path, text, size):
    turn = {"agent": text[:90], "response": text, "reward": -1e9, "outcome": text, "cut_off": True, "tokens": 5}
    turn["prompt"] = [{"role": "user", "content": text}]
    episode = {
        "task": text[:60],
        "question": text,
        "answer": text[:80],
        "correct": 0.5,
        "facts": {text[:60]: text[:70]},
    }
    episode |= {"turns": [turn], "program": text, "calls": [{"name": text, "inputs": {text[:50]: text}}]}
    page = made_up(tmp_path, [], [{"step": 0, "correct": [0.5], "episodes": [episode]}])
    browser.open(page, size)
    browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.messages() == []


def test_problems_can_be_searched_and_filtered(browser, pages):
    browser.open(pages["plan_path"])
    assert browser.text(".side p") == "6 problems"
    chips = {chip.text: chip for chip in browser.all(".chips button")}
    chips["learned"].click()
    learned = int(browser.text(".side p").split()[0])
    chips["wrong"].click()
    assert browser.text(".side p") == "0 problems"
    assert "No problem matches." in browser.text(".detail")
    chips["all"].click()
    assert 0 < learned < 6
    field = browser.all("input[type=search]")[0]
    browser.js("arguments[0].value = '/3'; arguments[0].dispatchEvent(new Event('input'))", field)
    assert browser.text(".side p") == "1 problem"


def test_comparison_shows_every_run(browser, pages):
    browser.open(pages["comparison"])
    assert browser.text("h1") == "3 runs compared"
    assert len(browser.all("tbody tr")) == 6
    assert len(browser.all(".panels .panel:first-child path.line")) == 3
    assert len(browser.all(".episode")) == 3
    assert [chip.text for chip in browser.all(".chips button")] == ["all", "differ", "all correct", "all wrong"]


def test_page_with_a_thousand_episodes_is_fast(browser, tmp_path):
    folder = report_toys.tree_run(tmp_path / "many")
    for path in recorded(folder).values():
        kept = json.loads(path.read_text())
        few = kept["episodes"]
        kept["episodes"] = [{**few[i % len(few)], "task": f"t{i}", "question": f"problem {i}"} for i in range(MANY)]
        path.write_text(json.dumps(kept))
    page = tmp_path / "many.html"
    write_report([folder], page)
    browser.driver.get("about:blank")
    began = browser.busy()
    browser.open(page, PHONE)
    loaded = browser.busy() - began
    assert browser.text(".side p") == f"{MANY} problems"
    assert len(browser.all(".row")) < 40
    began = browser.busy()
    for place in range(8):
        browser.js("document.querySelectorAll('.row')[arguments[0]].click(); document.body.offsetHeight", place)
    opened = (browser.busy() - began) / 8
    browser.js("const list = document.querySelector('.list'); list.scrollTop = list.scrollHeight")
    time.sleep(0.1)
    assert "499" in browser.all(".row")[-1].text
    assert browser.messages() == []
    size = page.stat().st_size
    print(f"1,000 episodes: {size / 1e6:.1f} MB, drawn in {loaded:.2f} s, an episode in {1000 * opened:.0f} ms")
    assert size < 10e6
    assert 0 < loaded < 3
    assert 0 < opened < 0.3
    picture = browser.screenshot(tmp_path / "phone.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
