"""The gallery as its readers meet it: from disk, by mouse, by keyboard, on any screen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exhibition import TRAP, a_night
from visiting import WIDTHS

from runner.job import State
from runner.manifest import load

Open = Callable[..., Any]
ALL = len(a_night())


def shown(page: Any) -> list[str]:
    """What the tiles in the document show, in their order."""
    names: list[str] = page.eval_on_selector_all(
        "#tiles .tile",
        "tiles => tiles.map(t => t.querySelector('img')?.alt ?? t.getAttribute('aria-label'))",
    )
    return names


def prompt_in_lightbox(page: Any) -> str:
    text: str = page.inner_text("#details .prompt")
    return text


def test_it_tells_the_night_in_figures_and_that_it_is_simulated(gallery: Open):
    page = gallery()

    assert page.title() == "night"
    assert page.inner_text(".badge-simulated") == "SIMULATED"
    assert f"17 of {ALL}" in page.inner_text("#figures")
    assert page.locator("#throughput rect").count() > 5
    assert page.locator("#tiles .tile").count() == ALL


def test_search_finds_words_in_any_order_and_without_accents(gallery: Open):
    page = gallery()

    page.keyboard.press("/")
    page.keyboard.type("MIST fox")
    assert set(shown(page)) == {"a fox in spring mist", "a fox in autumn mist"}
    page.fill("#search", "cafe")

    assert shown(page) == ["a café at noon"]
    assert page.inner_text("#found") == f"1 of {ALL} results"
    page.fill("#search", "no such thing")
    assert "Nothing matches" in page.inner_text("#found")


def test_filters_combine_and_stay_in_the_address(gallery: Open):
    page = gallery()

    page.click("#chips [data-key='state=saved']")
    page.click("#filter-toggle")
    page.click("[data-key='tag=owl']")
    page.click("[data-key='params.aspect_ratio=16:9']")
    page.click("[data-key='meta.season=autumn']")
    assert shown(page) == ["a owl in autumn mist"]
    again = gallery(page.url[page.url.index("#") :])
    again.click("#filter-toggle")

    assert shown(again) == ["a owl in autumn mist"]
    again.click("#filters .link")
    assert again.locator("#tiles .tile").count() == ALL


def test_results_are_sorted_as_asked(gallery: Open):
    page = gallery()

    page.select_option("#sort", "cost")
    assert shown(page)[0] == "a fox in autumn mist"
    page.select_option("#sort", "prompt")
    names = [name for name in shown(page) if name.startswith("a ")]
    assert names == sorted(names, key=str.casefold)
    page.select_option("#sort", "oldest")
    assert shown(page)[0] == "a fox in spring mist"


def test_the_grid_crosses_two_things_with_a_third_as_tabs(gallery: Open):
    page = gallery("#mode=grid&x=params.aspect_ratio&y=meta.season&z=tag")

    assert page.locator(".column").all_inner_texts() == ["1:1", "16:9", "3:4"]
    assert page.locator(".row-label").all_inner_texts() == ["spring", "autumn"]
    assert page.locator(".grid-tabs [role=tab]").all_inner_texts() == ["fox", "owl"]
    page.click(".grid-tabs >> text=owl")
    assert page.locator(".plot img").count() == 5
    assert "blocked" in page.inner_text(".plot-row:nth-child(2) .cell:nth-child(4)")
    page.click("#axis-turn")
    assert page.locator(".column").all_inner_texts() == ["spring", "autumn"]


def test_a_cell_for_which_there_is_no_job_says_so(gallery: Open):
    page = gallery("#mode=grid&x=params.aspect_ratio&y=params.seed")

    assert "no job" in page.inner_text(".plot-row:first-child .cell:nth-child(3)")


def test_the_grid_is_walked_with_arrows(gallery: Open):
    page = gallery("#mode=grid&x=params.aspect_ratio&y=meta.season&z=tag&tab=fox")

    page.locator(".plot-body .tile[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    assert prompt_in_lightbox(page) == "a fox in autumn mist"
    assert "16:9" in page.inner_text("#details")


def test_the_lightbox_is_worked_by_keyboard_alone(gallery: Open):
    page = gallery()

    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert prompt_in_lightbox(page) == "a owl in spring mist"
    details = page.inner_text("#details")
    for words in ("imagen", "1:1", "seed", "spring", "$0.0410", "5.0 s", "r-j1", "night/j1.jpg"):
        assert words in details
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#position") == f"3 of {ALL}"
    page.keyboard.press("End")
    assert page.inner_text("#position") == f"{ALL} of {ALL}"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#position") == f"1 of {ALL}"
    page.keyboard.press("Escape")

    assert not page.is_visible("#lightbox")
    # The browser gives the focus back first, and then the page moves it on.
    page.wait_for_selector(":focus img[alt='a fox in spring mist']")


def test_a_prompt_is_text_whatever_it_says(gallery: Open):
    page = gallery()

    page.fill("#search", "script")
    page.click("#tiles .tile")

    assert prompt_in_lightbox(page).replace("\u2028", "\n") == TRAP.replace("\u2028", "\n")
    assert page.title() == "night"
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("#details script, #details img").count() == 0
    page.keyboard.press("Escape")
    page.click("#tab-grid")
    page.click("#tab-attention")
    assert "<b>upstream</b> timed out" in page.inner_text("#attention")


def test_what_is_copied_is_the_prompt_and_an_entry_that_a_manifest_takes(
    gallery: Open, tmp_path: Path
):
    page = gallery()
    page.fill("#search", "script")
    page.click("#tiles .tile")

    page.click("text=Copy prompt")
    page.wait_for_selector("#toast.shown")
    assert page.evaluate("navigator.clipboard.readText()") == TRAP
    page.click("text=Copy as manifest entry")
    page.wait_for_selector("#toast:has-text('Manifest')")
    manifest = tmp_path / "again.yaml"
    manifest.write_text("prompts:\n" + page.evaluate("navigator.clipboard.readText()"), "utf-8")

    (again,) = load(manifest).jobs()
    assert again.params == {"prompt": TRAP}
    assert again.model == "imagen"


def test_failures_are_listed_by_cause_with_the_command_that_tries_again(gallery: Open):
    page = gallery()

    assert page.inner_text("#attention-count") == "6"
    page.click("#tab-attention")
    first = page.locator(".need").first
    assert "3 failed" in first.inner_text()
    assert "2 ×" in first.inner_text()
    command = first.locator("code").inner_text()
    assert command.startswith("runner retry")
    assert command.endswith("--state failed")
    first.locator("text=Copy").click()
    page.wait_for_selector("#toast.shown")
    assert page.evaluate("navigator.clipboard.readText()") == command
    first.locator("text=Show 2").click()

    assert [name.split(",")[0] for name in shown(page)] == ["a broken one", "another broken one"]


def test_videos_and_sounds_play_and_texts_are_read(gallery: Open):
    page = gallery()

    def open_one(words: str) -> None:
        page.fill("#search", words)
        page.click("#tiles .tile")

    open_one("bell")
    page.eval_on_selector("#stage audio", "sound => sound.play()")
    page.keyboard.press("Escape")
    open_one("poem")
    assert page.inner_text("#stage .reading") == "The mist <b>lifts</b>."
    page.keyboard.press("Escape")
    assert page.locator("#tiles video").count() == 0
    page.fill("#search", "wave")
    assert page.get_attribute("#tiles video", "src") == "night/wave.mp4#t=0.1"


def test_a_file_that_has_vanished_says_so_and_odd_names_are_found(gallery: Open):
    page = gallery()

    page.fill("#search", "lost")
    assert "file is gone" in page.inner_text("#tiles .tile")
    page.fill("#search", "café")
    page.click("#tiles .tile")
    page.wait_for_selector("#stage .large.loaded")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_window(gallery: Open, width: int):
    page = gallery(width=width)

    for view in ("sheet", "grid", "attention"):
        page.click(f"#tab-{view}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    page.click("#tab-sheet")
    page.click("#filter-toggle")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_colours_follow_the_system_until_they_are_chosen(gallery: Open):
    def paper(page: Any) -> int:
        rgb: list[int] = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        return rgb[0]

    dark, light = gallery(color_scheme="dark"), gallery(color_scheme="light")

    assert paper(dark) < 60
    assert paper(light) > 200
    light.click("#theme")
    light.click("#theme")
    assert light.get_attribute("#theme", "aria-label") == "Colours: dark"
    assert paper(light) < 60
    light.reload()
    assert paper(light) < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(gallery: Open, scheme: str):
    page = gallery(color_scheme=scheme)

    contrasts: dict[str, float] = page.evaluate(CONTRASTS)

    assert contrasts
    assert {pair: ratio for pair, ratio in contrasts.items() if ratio < 4.5} == {}


CONTRASTS = """() => {
  const probe = document.createElement('span');
  document.body.append(probe);
  const luminance = (name) => {
    probe.style.color = `var(${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number).map((v) => {
      const c = v / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  for (const ground of ['--paper', '--raised', '--sunken']) {
    for (const ink of ['--ink', '--soft', '--accent', '--good', '--bad', '--warn', '--work']) {
      const [a, b] = [luminance(ground), luminance(ink)];
      found[`${ink} on ${ground}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }
  }
  return found;
}"""


def test_states_of_jobs_without_a_result_are_named(gallery: Open):
    page = gallery()

    for state in (State.BLOCKED, State.FAILED, State.IN_DOUBT, State.PENDING):
        page.click(f"#chips [data-key='state={state.value}']")
        assert state.value.replace("_", " ") in page.inner_text("#tiles .tile >> nth=0")
        page.click(f"#chips [data-key='state={state.value}']")


def test_the_folder_shows_the_same_wherever_it_is_copied(night: Path, visit: Open, tmp_path: Path):
    copy = shutil.copytree(night / "output", tmp_path / "a copy #1 of 100%")

    page = visit((copy / "gallery.html").as_uri())
    page.wait_for_selector("#tiles .tile")

    assert page.locator("#tiles img").count() == 13
    page.wait_for_function(
        "[...document.querySelectorAll('#tiles img')].every(i => i.naturalWidth)"
    )


def test_a_page_without_its_data_says_what_is_missing(night: Path, visit: Open, tmp_path: Path):
    alone = tmp_path / "gallery.html"
    alone.write_bytes((night / "output/gallery.html").read_bytes())

    page = visit(alone.as_uri())

    assert "runner gallery" in page.inner_text("[role=alert]")
