"""The shape of the engine, read from its syntax trees: layers, forbidden imports, file sizes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "autofuse_engine"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("image_facts", "model_validation", "model_words", "model_fit", "model_page",
     "configs", "errors", "events", "model_card", "catalog", "verdict", "dataset_configs", "training_configs",
     "augmentation_configs", "field_rules",
     "training_presets", "run_folder", "run_lock", "class_names",
     "evaluation_configs", "evaluation_rows", "json_lines"),
    ("spatial",),
    ("networks", "losses", "metrics"),
    ("data", "checkpoint", "training_state", "official_import", "official_names", "devices", "memory"),
    (
        "registration",
        "model_choice",
        "model_description",
        "case_pool",
        "segmentation_output",
        "dataset_check",
        "dataset_preparation",
        "search", "search_memory", "search_pair", "search_records",
        "contrast_search", "contrast_transfer",
        "memory_ladder",
        "guidance",
        "guiding_labels",
        "initial_transform",
        "label_alignment",
        "lent_labels",
        "label_trial",
        "carried_fields",
        "passes",
        "prediction",
        "refinement",
        "refinement_labels",
        "adam",
        "deformation",
        "assessment",
        "application",
        "training",
        "training_export",
        "training_pairs",
        "training_pair_images",
        "training_preview",
        "training_start",
        "training_step",
        "training_trial",
        "network_displacement",
        "distributed",
        "run_records",
        "tensorboard_log",
        "validation",
        "evaluation",
        "evaluation_data",
        "evaluation_folder",
        "evaluation_judge",
        "evaluation_memory",
        "evaluation_methods",
        "evaluation_ours",
        "evaluation_pair_list",
        "evaluation_peers",
        "evaluation_refined",
        "peer_elastix",
        "peer_folder",
        "peer_geometry",
        "peer_packages",
        "peer_syn",
        "peer_voxelmorph",
        "peer_voxelmorph_network",
        "peer_voxelmorph_training",
    ),
    ("__main__", "cli", "commands", "model_commands", "model_card_commands",
     "model_arguments", "dataset_arguments", "dataset_commands", "demo", "benchmark",
     "worker", "worker_jobs", "terminal", "interruption", "training_arguments", "training_commands", "training_jobs",
     "training_terminal", "evaluation_arguments", "evaluation_commands", "guidance_inputs",
     "job_files", "overview", "overview_pictures", "overview_planes",
     "evaluation_label_plot", "evaluation_plots", "evaluation_report", "evaluation_statistics", "evaluation_tables",
     "reproduction", "reproduction_arguments", "reproduction_commands", "reproduction_estimate", "reproduction_figures",
     "reproduction_folder", "reproduction_plan", "reproduction_tables"),
)  # fmt: skip
"""Modules and packages of the engine from the words (0) to the doors (5); a new one is entered here first."""

SIMPLEITK_MODULES = {
    f"data/{name}.py"
    for name in ("files", "dicom", "transform_files", "resample", "affine", "pyramid", "surface_distance")
}
GUI_PACKAGES = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "PythonQt", "PySide6"}
THIRD_PARTY_OF_LAYER: dict[int, set[str]] = {
    0: set(),
    1: {"torch", "numpy"},
    2: {"torch", "numpy"},
    3: {"torch", "numpy", "SimpleITK", "safetensors"},
    4: {"torch", "numpy"},
    5: {"torch", "numpy", "rich", "matplotlib", "scipy"},
}


def python_files() -> list[Path]:
    return sorted(ENGINE.rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported anywhere in the file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from ("." * node.level + f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(part: str) -> int:
    for number, names in enumerate(LAYERS):
        if part in names:
            return number
    raise AssertionError(f"autofuse_engine.{part} stands in no layer: enter it in LAYERS")


def part_of(path: Path) -> str:
    """Name of the module or package directly below the engine that the file belongs to."""
    first = path.relative_to(ENGINE).parts[0]
    return first.removesuffix(".py")


def engine_part(name: str) -> str | None:
    pieces = name.split(".")
    if pieces[0] != "autofuse_engine" or len(pieces) < 2 or pieces[1].startswith("__version"):
        return None
    return pieces[1]


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.relative_to(ENGINE).as_posix())
class TestEveryEngineFile:
    def test_imports_point_down_only(self, path: Path) -> None:
        if path == ENGINE / "__init__.py":
            assert not [name for name in imported_names(tree_of(path)) if name != "__future__"]
            return
        own = layer_of(part_of(path))
        wrong = [name for name in imported_names(tree_of(path)) if (part := engine_part(name)) and layer_of(part) > own]
        assert not wrong, f"{path.name} of layer {own} imports upwards: {wrong}"

    def test_imports_are_absolute(self, path: Path) -> None:
        assert not [name for name in imported_names(tree_of(path)) if name.startswith(".")]

    def test_third_party_packages_are_those_of_its_layer(self, path: Path) -> None:
        tops = {name.split(".")[0] for name in imported_names(tree_of(path))}
        foreign = tops - set(sys.stdlib_module_names) - {"autofuse_engine", "__future__"}
        own = 0 if path == ENGINE / "__init__.py" else layer_of(part_of(path))
        assert foreign <= THIRD_PARTY_OF_LAYER[own], foreign - THIRD_PARTY_OF_LAYER[own]
        assert not tops & GUI_PACKAGES

    def test_simpleitk_is_used_at_the_border_only(self, path: Path) -> None:
        uses = any(name.split(".")[0] == "SimpleITK" for name in imported_names(tree_of(path)))
        assert not uses or path.relative_to(ENGINE).as_posix() in SIMPLEITK_MODULES

    def test_grid_sample_is_called_in_spatial_only(self, path: Path) -> None:
        names = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}
        assert "grid_sample" not in names or part_of(path) == "spatial"

    def test_no_assert_and_no_bare_except(self, path: Path) -> None:
        lines = [
            node.lineno
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and node.type is None)
        ]
        assert not lines

    def test_it_says_first_what_it_is_for(self, path: Path) -> None:
        assert ast.get_docstring(tree_of(path))


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in python_files()}
    edges = {
        name: {other for other in imported_names(tree_of(path)) if other in modules and other != name}
        for name, path in modules.items()
    }
    done: set[str] = set()
    while ready := {name for name in edges if name not in done and edges[name] <= done}:
        done |= ready
    assert set(edges) == done, f"in or behind a circle: {sorted(set(edges) - done)}"


def test_no_python_file_of_the_project_exceeds_400_lines() -> None:
    folders = ("autofuse_engine", "AutoFuseLib", "AutoFuseRegistration", "AutoFuseTraining", "Testing")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in files
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert files
    assert not long


def test_slicer_code_imports_only_words_of_the_engine_and_no_torch() -> None:
    for folder in ("AutoFuseLib", "AutoFuseRegistration", "AutoFuseTraining"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in imported_names(tree_of(path)):
                assert name.split(".")[0] != "torch", path
                part = engine_part(name)
                assert part is None or layer_of(part) == 0, f"{path} imports {name}"


def test_modules_of_slicer_do_not_import_each_other_and_their_files_are_shells() -> None:
    modules = ("AutoFuseRegistration", "AutoFuseTraining")
    for module in modules:
        others = {other for other in modules if other != module}
        for path in (ROOT / module).rglob("*.py"):
            tops = {name.split(".")[0].removesuffix("Lib") for name in imported_names(tree_of(path))}
            assert not tops & others, path
        shell = ROOT / module / f"{module}.py"
        assert not shell.exists() or len(shell.read_text(encoding="utf-8").splitlines()) < 200


def test_slicer_code_imports_nothing_that_slicer_does_not_bring() -> None:
    known = {"slicer", "qt", "ctk", "vtk", "numpy", "autofuse_engine", "SampleData", "PyTorchUtils", "packaging"}
    own = {"AutoFuseLib", "AutoFuseRegistrationLib", "AutoFuseTrainingLib", "__future__", ""}
    for folder in ("AutoFuseLib", "AutoFuseRegistration", "AutoFuseTraining"):
        for path in (ROOT / folder).rglob("*.py"):
            tops = {name.split(".")[0] for name in imported_names(tree_of(path))}
            assert tops <= known | own | set(sys.stdlib_module_names), (path, tops)


def test_the_words_load_without_any_third_party_package() -> None:
    import subprocess

    modules = [f"autofuse_engine.{name}" for name in LAYERS[0] if (ENGINE / f"{name}.py").exists()]
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
for name in {modules!r}: __import__(name)
bad = {{"torch", "numpy", "SimpleITK", "safetensors", "rich", "matplotlib"}} & set(sys.modules)
sys.exit(f"loaded {{bad}}" if bad else 0)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
