"""The files that an evaluation leaves: what the tables say, and that pictures hold all that they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofuse_engine.errors import FileError
from autofuse_engine.evaluation_configs import MethodSpec, parse_methods
from autofuse_engine.evaluation_label_plot import draw_labels
from autofuse_engine.evaluation_plots import Palette, draw_boxes, draw_time, wrapped
from autofuse_engine.evaluation_report import smoothness_families, write_report
from autofuse_engine.evaluation_statistics import summarise
from autofuse_engine.evaluation_tables import gates_markdown, notes, print_summary, table_markdown
from Testing.engine.evaluation_examples import make_evaluation, row, rows_of

LONG = "a-network-with-a-very-long-name@refine=default,smoothness=0.3,passes=2"
METHODS = ("none", "affine", "first-net", f"second-net@as={LONG.replace(',', ';')}")


def cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def overlapping(figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes meet, and texts that leave the picture."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    ticks = [tick for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_major_ticks()
             if min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())]  # fmt: skip
    texts = [text for tick in ticks for text in (tick.label1, tick.label2) if text.get_visible() and text.get_text()]
    texts += [text for text in (axes.xaxis.label, *figure.texts) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    whole = figure.bbox
    out = [(name, "edge") for name, box in boxes
           if min(box.x0, box.y0) < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1]  # fmt: skip
    met = [
        (one, two) for number, (one, box) in enumerate(boxes) for two, other in boxes[:number] if box.overlaps(other)
    ]
    return out + met


def test_the_report_writes_every_file_and_says_which(tmp_path: Path) -> None:
    folder = make_evaluation(tmp_path / "Prüfung mit Leerzeichen", parse_methods(METHODS))
    report = write_report(folder)
    assert set(report["files"]) == {"summary.json", "table.md", "dice.png", "labels.png", "gates.md", "gates.png",
                                    "time.png"}  # fmt: skip
    for name in report["files"]:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") if name.endswith("png") else content
    stored = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(report["summary"]))
    assert stored["correction"] == "Holm"
    assert stored["methods"][2]["dice_per_label"]["3"]["n"] == 8
    assert not list(folder.glob(".autofuse-*"))


def test_a_report_removes_pictures_that_have_no_reason_any_more(tmp_path: Path) -> None:
    folder = make_evaluation(tmp_path, parse_methods(["none"]))
    (folder / "gates.png").write_bytes(b"old")
    report = write_report(folder)
    assert "gates.png" not in report["files"]
    assert not (folder / "gates.png").exists()
    assert "time.png" not in report["files"]


def test_methods_of_different_smoothness_get_a_picture_of_their_own(tmp_path: Path) -> None:
    methods = parse_methods(["none", *(f"net@smoothness={value}" for value in (0.3, 1, 3)), "other@smoothness=2"])
    families = smoothness_families(methods)
    assert families == [("net", {"net@smoothness=0.3": 0.3, "net@smoothness=1": 1.0, "net@smoothness=3": 3.0})]
    assert "smoothness.png" in write_report(make_evaluation(tmp_path, methods))["files"]


def test_other_differences_make_other_families() -> None:
    def spec(name: str, **more) -> MethodSpec:
        return MethodSpec(name=name, kind="model", model="net", **more)

    assert not smoothness_families([spec("a", smoothness=2.0), spec("b", passes=2), spec("c", refinement_steps=5)])
    assert not smoothness_families([spec("a", smoothness=2.0), spec("b", similarity="mind")])
    assert not smoothness_families([spec("a", smoothness=2.0), spec("b", label_alignment=False)])


def test_the_folder_of_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        write_report(tmp_path)
    assert caught.value.code == "evaluation-empty"


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    folder = make_evaluation(tmp_path, parse_methods(["none"]))
    (folder / "evaluation.json").write_text('{"methods": [{"name": 3}]}', encoding="utf-8")
    with pytest.raises(FileError) as caught:
        write_report(folder)
    assert caught.value.code == "evaluation-invalid"


def test_the_best_stands_out_and_what_is_not_significant_says_so() -> None:
    good = [0.80, 0.82, 0.81, 0.85, 0.86, 0.87, 0.83, 0.84]
    close = [value + (0.004 if number % 2 else -0.0041) for number, value in enumerate(good)]
    rows = [*rows_of("good", good, hd95_mm=2.0), *rows_of("close", close, hd95_mm=1.5),
            *rows_of("worse", [value - 0.2 + 0.01 * value for value in good], hd95_mm=3.0)]  # fmt: skip
    table = cells(table_markdown(summarise(rows, "good")))
    header, body = table[0], {line[0]: line for line in table[2:]}
    dice, p, hd95 = header.index("Dice"), header.index("p"), header.index("HD95 (mm)")
    assert body["good"][dice].startswith("**0.83")
    assert not body["close"][dice].startswith("**")
    assert body["close"][hd95] == "**1.50 ± 0.00**"
    assert body["good"][p] == "reference"
    assert body["close"][p].endswith(", not significant")
    # Eight differences of one sign: 2 / 2^8, times 2 for the smaller one of two.
    assert body["worse"][p] == "0.016"
    assert all(len(line) == len(header) for line in table)


def test_a_method_with_few_pairs_never_stands_out() -> None:
    rows = [*rows_of("lucky", [0.9]), *rows_of("good", [0.7] * 8), *rows_of("bad", [0.6] * 8)]
    table = cells(table_markdown(summarise(rows)))
    assert [line[0] for line in table if any(cell.startswith("**") for cell in line)] == ["good"]


def test_the_notes_name_test_correction_failures_and_small_numbers() -> None:
    rows = [*rows_of("one", [0.5, 0.6, None]), *rows_of("two", [0.5, 0.7, 0.8])]
    text = " ".join(notes(summarise(rows)))
    for part in ("Wilcoxon signed-rank", "Holm's correction for 1 test", "against two", "too few for significance",
                 "one failed on 1 pair: It ran out of memory.", "not independent"):  # fmt: skip
        assert part in text


def test_signs_of_markdown_in_names_are_shown_as_they_are() -> None:
    markdown = table_markdown(summarise(rows_of("a|b*c_d", [0.5, 0.6])))
    assert "a\\|b\\*c\\_d" in markdown
    assert "| p |" not in markdown


def test_means_of_gates_stand_by_stage_and_level(tmp_path: Path) -> None:
    gates = [({"stage": 1, "level": 4, "pair_weight": weight},) for weight in (0.25, 0.75)]
    rows = [row("net", number, dice=0.5, gate_means=gate) for number, gate in enumerate(gates)]
    table = cells(gates_markdown(summarise([*rows, *rows_of("none", [0.4, 0.4])])))
    assert table[0] == ["stage", "level", "net"]
    assert table[2] == ["1", "4", "0.5000 ± 0.3536"]
    assert gates_markdown(summarise(rows_of("none", [0.4]))) == ""


def test_the_table_on_a_terminal_leaves_out_what_has_no_room(monkeypatch, capsys) -> None:
    more = {"folding_count": 3, "folding_percent": 0.01, "sd_log_jacobian": 0.1, "inverse_mean_mm": 0.1, "ncc": 0.9,
            "inverse_p99_mm": 0.2, "peak_memory_gib": 1.5, "hd95_mm": 2.0}  # fmt: skip
    summary = summarise([*rows_of("one", [0.5, 0.6], **more), *rows_of("two", [0.51, 0.62], **more)])
    for columns, whole in ((300, True), (80, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_summary(summary, "Hippocampus")
        shown = capsys.readouterr().out
        assert ("Left out" in shown) is not whole
        assert all(part in shown for part in ("one", "reference", "0.5650 ±"))


def test_the_names_of_methods_keep_room_on_a_narrow_terminal(monkeypatch, capsys) -> None:
    more = {"folding_count": 3, "folding_percent": 0.01, "hd95_mm": 2.0}
    names = ("affine", "hippo-trial@refine=default,passes=2")
    summary = summarise([item for name in names for item in rows_of(name, [0.5, 0.6], **more)])
    monkeypatch.setenv("COLUMNS", "80")
    print_summary(summary, "Hippocampus")
    shown = capsys.readouterr().out
    assert "affine" in shown
    assert "hippo-trial@refine" in shown
    assert "seconds, median" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("labels", [2, 36, 149])
def test_no_text_of_the_labels_meets_another_or_the_edge(tmp_path: Path, labels: int) -> None:
    names = [f"method-{number}-{LONG}" if number % 3 == 0 else f"network-{number}-hippocampus" for number in range(6)]
    rows = [
        row(name, pair, dice=0.5, dice_per_label={str(label): 0.3 + label / 300 for label in range(1, labels + 1)})
        for name in names
        for pair in (1,)
    ]
    figure = draw_labels(summarise(rows), {str(number): "Left-Cerebral-White-Matter" for number in range(1, 200, 2)})
    assert not overlapping(figure)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(shown) == (labels if labels <= 40 else 31)
    assert ("mean of the 119 others" in shown) is (labels == 149)
    assert shown[0].startswith("1 ")


def test_no_text_of_the_boxes_meets_another_or_the_edge() -> None:
    rows = [made for number in range(15) for made in rows_of(f"{number}-{LONG}", [0.5 + 0.01 * number, 0.6])]
    summary = summarise(rows)
    figure = draw_boxes(summary, rows, Palette(summary))
    assert not overlapping(figure)
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith("14-")


def test_a_method_that_was_judged_on_fewer_pairs_says_so() -> None:
    rows = [*rows_of("net", [0.7, 0.8, 0.75]), *rows_of("slow", [0.9])]
    summary = summarise(rows)
    labels = [text.get_text() for text in draw_boxes(summary, rows, Palette(summary)).axes[0].get_yticklabels()]
    assert labels == ["slow\n(1 of 3 pairs)", "net"]


def test_methods_without_time_are_lines_in_the_picture_of_times() -> None:
    rows = [*rows_of("none", [0.4, 0.5], seconds=0.0), *rows_of("net", [0.7, 0.8], seconds=0.7)]
    summary = summarise(rows)
    figure = draw_time(summary, Palette(summary))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["net", "none (no time)"]
    assert not overlapping(figure)
    assert draw_time(summarise(rows[:2]), Palette(summary)) is None


@pytest.mark.parametrize("name", [LONG, "x" * 100, "short", "Größe mit Ω", " - "])
def test_wrapping_a_name_loses_nothing_but_spaces_at_the_ends_of_lines(name: str) -> None:
    lines = wrapped(name, 20).splitlines()
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    assert all(len(line) <= 20 for line in lines)
