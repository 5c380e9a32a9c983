"""Point lists: what a file says is kept, only positions change, and both spaces are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofuse_engine.data.points import PointList, is_point_file, read_points, write_points
from autofuse_engine.errors import FileError, InputError

RAS = np.array([[-12.5, 34.25, 56.0], [1 / 3, -2e-7, 100.0], [0.0, 7.0, -8.125]])
LPS = RAS * (-1, -1, 1)
SHIFT = np.array([1.0, 2.0, 3.0])
FCSV = """# Markups fiducial file version = 4.11
# CoordinateSystem = {space}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,{0[0]!r},{0[1]!r},{0[2]!r},0,0,0,1,1,0,1,"tip, left",note,node7,2,0
2,{1[0]!r},{1[1]!r},{1[2]!r},0,0,0,1,1,1,0,F-2,,,2,0
3,{2[0]!r},{2[1]!r},{2[2]!r},0,0,0,1,1,1,0,F-3,,,2,0
"""


def markups_text(space: str | None = "LPS", kind: str = "Curve", positions: np.ndarray = LPS, **more: Any) -> str:
    """A markups file with fields of many kinds, one control point of which has no place."""
    points = [
        {"id": str(n), "label": f"P-{n} ä", "position": place, "orientation": [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0],
         "selected": n == 1, "positionStatus": "defined", "description": "d"}
        for n, place in enumerate(positions.tolist(), start=1)
    ]  # fmt: skip
    points.insert(1, {"id": "9", "label": "unplaced", "position": [], "positionStatus": "undefined"})
    markup: dict[str, Any] = {
        "type": kind,
        "coordinateSystem": space,
        "coordinateUnits": "mm",
        "locked": True,
        "controlPoints": points,
        "display": {"color": [0.4, 1.0, 0.25], "glyphSize": 5.0},
    }
    if space is None:
        del markup["coordinateSystem"]
    return json.dumps({"@schema": "some schema", "markups": [markup | more]}, indent=2, ensure_ascii=False)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, code: str, kind: type[FileError] | type[InputError] = InputError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        read_points(path, **options)
    assert caught.value.code == code
    assert str(path) in caught.value.text
    assert caught.value.hint.endswith(".")
    return caught.value.text


def rows(points: np.ndarray, form: str = "{0!r},{1!r},{2!r}\n") -> str:
    return "".join(form.format(*row) for row in points.tolist())


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (rows(RAS), ("", "", "")),
        ("x,y,z\n" + rows(RAS), ("", "", "")),
        ("# space: LPS\nx,y,z\n" + rows(LPS), ("", "", "")),
        ("# Space = lps\n" + rows(LPS), ("", "", "")),
        ("R,A,S\n" + rows(RAS), ("", "", "")),
        ("label,l,p,s\n" + rows(LPS, "T,{0!r},{1!r},{2!r}\n"), ("T", "T", "T")),
        ("Name; X; Y; Z\n" + rows(RAS, "T; {0!r}; {1!r}; {2!r}\n"), ("T", "T", "T")),
        (rows(RAS, "T\t{0!r}\t{1!r}\t{2!r}\n"), ("T", "T", "T")),
        (rows(RAS, '{0!r},{1!r},{2!r},"a, b"\n'), ("a, b",) * 3),
        ("z,label,y,x\n" + rows(RAS, "{2!r},T,{1!r},{0!r}\n"), ("T", "T", "T")),
        ("\ufeffx,y,z\n" + rows(RAS).replace("\n", "\r\n") + "\n\n", ("", "", "")),
    ],
)
def test_tables_are_read_with_and_without_header_in_both_spaces(
    tmp_path: Path, text: str, labels: tuple[str, ...]
) -> None:
    points = read_points(written(tmp_path / "points.csv", text))
    assert np.array_equal(points.points_ras, RAS)
    assert points.labels == labels
    assert points.name == "points"


def test_the_space_of_a_silent_table_can_be_told(tmp_path: Path) -> None:
    path = written(tmp_path / "points.csv", "x,y,z\n" + rows(LPS))
    points = read_points(path, space="LPS")
    assert np.array_equal(points.points_ras, RAS)
    write_points(path, points)
    assert np.array_equal(read_points(path).points_ras, RAS)  # the file says so now
    assert path.read_text(encoding="utf-8").startswith("# space: LPS\n")


@pytest.mark.parametrize("text", ["# space: RAS\nx,y,z\n1,2,3\n", "r,a,s\n1,2,3\n"])
def test_a_space_that_contradicts_the_file_is_refused(tmp_path: Path, text: str) -> None:
    refusal(written(tmp_path / "points.csv", text), "points-space-differs", space="LPS")


def test_a_comment_that_contradicts_the_header_is_refused(tmp_path: Path) -> None:
    refusal(written(tmp_path / "points.csv", "# space: LPS\nr,a,s\n1,2,3\n"), "points-space-differs")


@pytest.mark.parametrize("space", ["LPS", "RAS", "0", "1"])
def test_slicers_old_lists_are_read_in_their_space(tmp_path: Path, space: str) -> None:
    places = LPS if space in ("LPS", "1") else RAS
    points = read_points(written(tmp_path / "list.fcsv", FCSV.format(*places.tolist(), space=space)))
    assert np.array_equal(points.points_ras, RAS)
    assert points.labels == ("tip, left", "F-2", "F-3")


def test_an_old_list_without_a_space_is_right_anterior_superior(tmp_path: Path) -> None:
    text = FCSV.format(*RAS.tolist(), space="").replace("# CoordinateSystem = \n", "")
    assert np.array_equal(read_points(written(tmp_path / "list.fcsv", text)).points_ras, RAS)


@pytest.mark.parametrize(("space", "places"), [("LPS", LPS), ("RAS", RAS), (None, LPS)])
def test_markups_are_read_in_their_space_and_points_without_a_place_are_skipped(
    tmp_path: Path, space: str | None, places: np.ndarray
) -> None:
    points = read_points(written(tmp_path / "curve.mrk.json", markups_text(space, positions=places)))
    assert np.array_equal(points.points_ras, RAS)
    assert points.labels == ("P-1 ä", "P-2 ä", "P-3 ä")
    assert points.name == "curve"


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_markups_keep_every_field_but_the_positions(tmp_path: Path, space: str) -> None:
    signs = (-1, -1, 1) if space == "LPS" else (1, 1, 1)
    path = written(tmp_path / "curve.mrk.json", markups_text(space, positions=RAS * signs))
    before = json.loads(path.read_text(encoding="utf-8"))
    points = read_points(path)
    write_points(tmp_path / "moved.mrk.json", points.with_points(RAS + SHIFT))
    after = json.loads((tmp_path / "moved.mrk.json").read_text(encoding="utf-8"))
    expected = before["markups"][0]["controlPoints"]
    for point, place in zip([expected[0], expected[2], expected[3]], ((RAS + SHIFT) * signs).tolist(), strict=True):
        point["position"] = [value + 0.0 for value in place]
    assert after == before
    assert list(after["markups"][0]) == list(before["markups"][0])


def test_several_markups_in_a_file_keep_their_own_spaces(tmp_path: Path) -> None:
    content = json.loads(markups_text("RAS", positions=RAS))
    content["markups"] += json.loads(markups_text("LPS", positions=LPS + SHIFT))["markups"]
    path = written(tmp_path / "two.mrk.json", json.dumps(content))
    points = read_points(path)
    assert np.array_equal(points.points_ras, np.concatenate([RAS, (LPS + SHIFT) * (-1, -1, 1)]))
    write_points(path, points)
    assert json.loads(path.read_text(encoding="utf-8")) == content


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "# a remark\nlabel;x;y;z;weight\n" + rows(RAS, "T;{0!r};{1!r};{2!r};0.50\n")),
        ("b.csv", "l,p,s\n" + rows(LPS + 0.0)),
        ("c.csv", rows(RAS)),
        ("d.fcsv", FCSV.format(*(LPS + 0.0).tolist(), space="LPS").replace('"tip, left"', "tip")),
    ],
)
def test_what_is_read_and_written_unchanged_is_the_same_file(tmp_path: Path, name: str, text: str) -> None:
    path = written(tmp_path / name, text)
    write_points(path, read_points(path))
    assert path.read_text(encoding="utf-8") == text


def test_a_table_changes_its_space_on_demand_and_says_so(tmp_path: Path) -> None:
    points = read_points(written(tmp_path / "points.csv", "r,a,s\n" + rows(RAS)))
    write_points(tmp_path / "lps.csv", points, space="LPS")
    assert (tmp_path / "lps.csv").read_text(encoding="utf-8").startswith("l,p,s\n12.5,-34.25,56.0\n")
    assert np.array_equal(read_points(tmp_path / "lps.csv").points_ras, RAS)
    write_points(tmp_path / "lps.fcsv", points, space="LPS")
    assert "# CoordinateSystem = LPS" in (tmp_path / "lps.fcsv").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", [".csv", ".fcsv", ".mrk.json"])
def test_points_without_a_file_are_written_and_read_back_to_the_last_bit(tmp_path: Path, ending: str) -> None:
    places = np.random.default_rng(0).normal(scale=80, size=(20, 3))
    points = PointList(points_ras=places, labels=[f"L{n}" for n in range(20)])
    path = tmp_path / f"Größe 1{ending}"
    write_points(path, points)
    again = read_points(path)
    assert np.array_equal(again.points_ras, places)
    assert again.labels == points.labels


@pytest.mark.parametrize("first", [".csv", ".fcsv", ".mrk.json"])
@pytest.mark.parametrize("second", [".csv", ".fcsv", ".mrk.json"])
def test_lists_change_their_format(tmp_path: Path, first: str, second: str) -> None:
    write_points(tmp_path / f"one{first}", PointList(points_ras=RAS, labels=("a", "b", "c")))
    write_points(tmp_path / f"two{second}", read_points(tmp_path / f"one{first}"))
    again = read_points(tmp_path / f"two{second}")
    assert np.array_equal(again.points_ras, RAS)
    assert again.labels == ("a", "b", "c")


def test_new_markups_are_what_slicer_expects(tmp_path: Path) -> None:
    write_points(tmp_path / "new.mrk.json", PointList(points_ras=RAS))
    content = json.loads((tmp_path / "new.mrk.json").read_text(encoding="utf-8"))
    markup = content["markups"][0]
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    assert (markup["type"], markup["coordinateSystem"], markup["coordinateUnits"]) == ("Fiducial", "LPS", "mm")
    assert markup["controlPoints"][0]["position"] == [12.5, -34.25, 56.0]
    assert [point["label"] for point in markup["controlPoints"]] == ["F-1", "F-2", "F-3"]


def test_negative_zeros_do_not_arise(tmp_path: Path) -> None:
    write_points(tmp_path / "zero.mrk.json", PointList(points_ras=np.zeros((1, 3))))
    assert "-0.0" not in (tmp_path / "zero.mrk.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x,y,z\n1,2,3\n4,five,6\n", "Line 3"),
        ("# c\nx,y,z\n1,2\n", "Line 3"),
        ("a,b,c\n1,2,3\n", "a, b, c"),
        ("1,2,3,4\n", "number"),
        ("1,2\n", "number"),
        ("x;y;z\n1,5;2,5;3,5\n", "Line 2"),
        ("x,y,z\n1,2,nan\n", "not finite"),
    ],
)
def test_tables_that_cannot_be_understood_are_refused_with_the_place(tmp_path: Path, text: str, part: str) -> None:
    assert part in refusal(written(tmp_path / "points.csv", text), "points-invalid")


@pytest.mark.parametrize("text", ["{}", "[1, 2]", "not json", '{"markups": 3}', '{"markups": [{"controlPoints": 5}]}',
                                  '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}'])  # fmt: skip
def test_other_json_is_no_markups_file(tmp_path: Path, text: str) -> None:
    refusal(written(tmp_path / "points.mrk.json", text), "points-invalid")


@pytest.mark.parametrize("name", ["points.csv", "points.fcsv", "points.mrk.json"])
def test_lists_without_points_are_refused(tmp_path: Path, name: str) -> None:
    text = '{"markups": []}' if name.endswith("json") else "# columns = id,x,y,z\n" if "f" in name[-4:] else "x,y,z\n"
    refusal(written(tmp_path / name, text), "points-empty")


def test_unknown_spaces_and_units_are_refused(tmp_path: Path) -> None:
    refusal(written(tmp_path / "a.fcsv", FCSV.format(*RAS.tolist(), space="2")), "points-space-unknown")
    refusal(written(tmp_path / "b.csv", "# space: IJK\nx,y,z\n1,2,3\n"), "points-space-unknown")
    refusal(written(tmp_path / "c.mrk.json", markups_text("IJK")), "points-space-unknown")
    refusal(written(tmp_path / "d.mrk.json", markups_text(coordinateUnits="um")), "points-space-unknown")


@pytest.mark.parametrize("kind", ["ROI", "Plane"])
def test_boxes_and_planes_are_refused(tmp_path: Path, kind: str) -> None:
    assert kind in refusal(written(tmp_path / "box.mrk.json", markups_text(kind=kind)), "markups-not-points")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    refusal(tmp_path / "none.csv", "file-not-found", FileError)
    refusal(written(tmp_path / "points.xyz", "1,2,3"), "points-format-unknown", FileError)
    (tmp_path / "latin.csv").write_bytes("x,y,z,label\n1,2,3,ä\n".encode("latin-1"))
    refusal(tmp_path / "latin.csv", "points-invalid")


def test_point_files_are_known_by_their_ending() -> None:
    assert [is_point_file(name) for name in ("a.csv", "a.FCSV", "a.mrk.json", "a.json", "a.nii.gz")] == [
        True, True, True, False, False]  # fmt: skip


def test_wrong_shapes_are_refused_with_the_shape_received() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\), received \(3, 2\)"):
        PointList(points_ras=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="3 labels, received 1"):
        PointList(points_ras=RAS, labels=("one",))
    with pytest.raises(ValueError, match="received"):
        PointList(points_ras=RAS).with_points(RAS[:2])
