"""A damaged model file is named by a message, crashes nothing, and is never taken as whole."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import openmm
import pytest
import reference_models
from model_archives import (
    METADATA,
    archive_of,
    edited,
    members_of,
    replaced,
    with_metadata,
    with_metadata_text,
    written,
)
from reference_models import reference_models as make_models
from reference_models import save_model

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained, read_metadata
from timewarp_openmm.contract import MAX_ATOMS, MAX_LAG_TIMES, MAX_NOISE_SIZE, ContractError

NUM_FLIPS = 300
HERE = Path(reference_models.__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a small model file."""
    path = tmp_path_factory.mktemp("whole") / "affine.pt"
    save_model(*make_models(4)["affine"], path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def bound() -> bytes:
    """The content of a file whose model is bound to a molecule."""
    return Path(pretrained("alanine-dipeptide")).read_bytes()


def refusals(path: str) -> list[str]:
    """Return what the integrator and the reader of metadata say of a file that both must refuse."""
    with pytest.raises(openmm.OpenMMException) as of_integrator:
        TimewarpMCMCIntegrator(path)
    with pytest.raises(ContractError) as of_reader:
        read_metadata(path)
    messages = [str(of_integrator.value), str(of_reader.value)]
    for message in messages:
        assert path in message
        assert "\n" not in message.strip()
    return messages


ENTRIES: dict[str, object] = {
    "noise_size": [-1, 3.0, True, "24", None, 10**7, 2**40, 10**30, [24]],
    "temperature": [0, -1.0, True, "300", None, [300.0]],
    "lag_times": [[], [0], [-1.0], ["1.0"], ["Inf"], [None], [True], 1.0, "inf", [1.0, 2.0]],
    "lag_weights": [[], [0.5], [-1.0, 2.0], ["1"], [True], [None], 1.0],
    "auxiliary_velocities": [0, "true", None],
    "precision": ["half", 1, None, True],
    "coordinates": [3, None, ["internal"]],
    "provenance": [[], None, "text"],
    "force_field": [None, 1],
    "reference_positions": [[[0.0, 0.0]], [[0.0, "0", 0.0]], [[True, 0.0, 0.0]], "text", {}],
    "contract_version": [0, 2, "1", None, 1.5],
    "molecule": [[], "water", 3, {}],
    "unheard_of": [1],
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_a_wrong_type_or_value(model: bytes, name: str, tmp_path: Path) -> None:
    for value in ENTRIES[name]:  # type: ignore[attr-defined]
        refusals(written(with_metadata(model, **{name: value}), tmp_path))


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "unheard_of"])
def test_entries_that_are_missing(model: bytes, name: str, tmp_path: Path) -> None:
    def without(text: str) -> str:
        content = json.loads(text)
        del content[name]
        return json.dumps(content)

    path = written(with_metadata_text(model, without), tmp_path)
    optional = {"auxiliary_velocities", "precision", "provenance", "force_field"}
    if name in optional | {"reference_positions"}:
        TimewarpMCMCIntegrator(path)
        read_metadata(path)
    else:
        refusals(path)


MOLECULES: dict[str, Callable[[dict[str, list[object]]], object]] = {
    "mass of text": lambda m: {**m, "masses": ["1", *m["masses"][1:]]},
    "mass of zero": lambda m: {**m, "masses": [0.0, *m["masses"][1:]]},
    "one atom less": lambda m: {**m, "elements": m["elements"][1:]},
    "no atoms": lambda m: {key: [] for key in m},
    "names that are numbers": lambda m: {**m, "atom_names": list(range(22))},
    "residue of half a number": lambda m: {**m, "residue_indices": [0.5] * 22},
    "bond of three": lambda m: {**m, "bonds": [[0, 1, 2]]},
    "bond of one atom more": lambda m: {**m, "bonds": [[0, 22]]},
    "bond of text": lambda m: {**m, "bonds": [["0", 1]]},
    "negative bond": lambda m: {**m, "bonds": [[0, -1]]},
    "without elements": lambda m: {k: v for k, v in m.items() if k != "elements"},
    "an entry more": lambda m: {**m, "charge": 0},
}


@pytest.mark.parametrize("fault", MOLECULES)
def test_molecules(bound: bytes, fault: str, tmp_path: Path) -> None:
    whole = json.loads(dict(members_of(bound))[METADATA])["molecule"]
    refusals(written(with_metadata(bound, molecule=MOLECULES[fault](whole)), tmp_path))


def test_positions_of_another_number_of_atoms(bound: bytes, tmp_path: Path) -> None:
    for positions in ([[0.0, 0.0, 0.0]] * 21, None):
        refusals(written(with_metadata(bound, reference_positions=positions), tmp_path))


TEXTS: dict[str, Callable[[str], str]] = {
    "no JSON": lambda text: text[:-2],
    "a list": lambda text: "[]",
    "nothing": lambda text: "",
    "NaN": lambda text: text.replace('"temperature": 300.0', '"temperature": NaN'),
    "Infinity": lambda text: text.replace('"temperature": 300.0', '"temperature": Infinity'),
    "beyond doubles": lambda text: text.replace('"temperature": 300.0', '"temperature": 1e999'),
    "an entry twice": lambda text: text.replace("{", '{"noise_size": 3,', 1),
    "nested deeply": lambda text: text.replace(
        '"provenance": {', '"provenance": {"a": ' + "[" * 60 + "]" * 60
    ),
    "nested very deeply": lambda text: "[" * 10**6,
}


@pytest.mark.parametrize("fault", TEXTS)
def test_texts(model: bytes, fault: str, tmp_path: Path) -> None:
    refusals(written(with_metadata_text(model, TEXTS[fault]), tmp_path))


def test_bytes_that_are_no_text(model: bytes, tmp_path: Path) -> None:
    refusals(
        written(edited(model, {METADATA: lambda m: m.replace(b"test", b"t\xff\xfet")}), tmp_path)
    )


def test_both_readers_have_the_same_bounds(model: bytes, tmp_path: Path) -> None:
    lags = {
        n: {"lag_times": [1.0] * n, "lag_weights": [1.0 / n] * n}
        for n in (MAX_LAG_TIMES, MAX_LAG_TIMES + 1)
    }
    unchecked = with_metadata(model, reference_positions=None)
    for accepted in ({"noise_size": MAX_NOISE_SIZE}, lags[MAX_LAG_TIMES]):
        path = written(with_metadata(unchecked, **accepted), tmp_path)
        TimewarpMCMCIntegrator(path)
        read_metadata(path)
    positions = [[0, 0, 0]] * (MAX_ATOMS + 1)
    for refused in (
        {"noise_size": MAX_NOISE_SIZE + 1},
        lags[MAX_LAG_TIMES + 1],
        {"reference_positions": positions},
    ):
        refusals(written(with_metadata(unchecked, **refused), tmp_path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [METADATA, METADATA.upper(), "data.pkl", "DATA.pkl"])
def test_two_members_of_one_name(model: bytes, name: str, tmp_path: Path) -> None:
    """The member read for metadata, or code, is the one that torch reads."""
    content = archive_of([*members_of(model), (name, b"{}")])
    assert "two members of the name" in refusals(written(content, tmp_path))[0]


def test_members_in_another_folder(model: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"other/{METADATA}", "{}")
    refusals(written(buffer.getvalue(), tmp_path))


def test_formats_that_other_code_would_read(model: bytes, tmp_path: Path) -> None:
    for name in ("model.json", "bytecode.pkl", "mkldnn/0", "../data.pkl"):
        path = written(archive_of([*members_of(model), (name, b"{}")]), tmp_path)
        with pytest.raises(openmm.OpenMMException, match="which torch"):
            TimewarpMCMCIntegrator(path)


def test_sizes_that_ask_for_all_memory(model: bytes, tmp_path: Path) -> None:
    """Compressed members that are hundreds of times as large as the file."""
    for size in (10**7, 10**8):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members_of(model):
                archive.writestr(f"archive/{name}", content)
            archive.writestr("archive/code/bomb.py", bytes(size))
        path = written(buffer.getvalue(), tmp_path)
        with pytest.raises(openmm.OpenMMException, match="bomb"):
            TimewarpMCMCIntegrator(path)
        assert zipfile.ZipFile(path).testzip() is None


def test_files_that_were_cut_off_or_extended(model: bytes, tmp_path: Path) -> None:
    for content in (
        b"",
        model[:100],
        model[:-1],
        model[: len(model) // 2],
        model + b"\0",
        b"\0" + model,
        model[1:],
    ):
        path = written(content, tmp_path)
        with pytest.raises(openmm.OpenMMException, match="not a TorchScript module, or is damaged"):
            TimewarpMCMCIntegrator(path)


WEIGHTS: dict[str, tuple[str, bytes, bytes]] = {
    # A tensor of three numbers, said to be of more: [K 3] is its size, [K 1] its stride.
    "storage beyond its member": ("data.pkl", b"cpuq\x06K\x03t", b"cpuq\x06M\xff\x7ft"),
    "tensor beyond its storage": ("data.pkl", b"K\x00(K\x03t(K\x01t", b"K\x00(K\x04t(K\x01t"),
    "tensor that begins late": ("data.pkl", b"K\x00(K\x03t(K\x01t", b"K\x01(K\x03t(K\x01t"),
    "wide strides": ("data.pkl", b"K\x00(K\x03t(K\x01t", b"K\x00(K\x03t(K\x02t"),
    "negative stride": ("data.pkl", b"K\x00(K\x03t(K\x01t", b"K\x00(K\x03t(J\xff\xff\xff\xfft"),
    "negative offset": ("data.pkl", b"K\x00(K\x03t(K\x01t", b"J\xff\xff\xff\xff(K\x03t(K\x01t"),
    "a number for a tensor": ("data.pkl", b"scaleq\x01c", b"scaleq\x01K\x03c"),
    "an integer for a real number": (
        "data.pkl",
        b"shrinkq\x0cG?\xf0" + bytes(6),
        b"shrinkq\x0cK\x01",
    ),
}


@pytest.mark.parametrize("fault", WEIGHTS)
def test_weights_beyond_their_data(model: bytes, fault: str, tmp_path: Path) -> None:
    """Torch would read memory that is not the tensor's, and crash or go on with what is there."""
    member, old, new = WEIGHTS[fault]
    path = written(edited(model, {member: replaced(old, new)}), tmp_path)
    with pytest.raises(openmm.OpenMMException, match=r"refused before it ran|cannot be read"):
        TimewarpMCMCIntegrator(path)


def directory_of(content: bytes) -> list[tuple[str, int, int]]:
    """Return names, sizes and checksums; what is read is known to agree with these."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(m.filename, m.file_size, m.CRC) for m in archive.infolist()]


def flip_bits(path: str) -> None:
    """Read a file with one bit flipped after the other, and print what became of each."""
    import random

    whole = Path(path).read_bytes()
    expected, generator = directory_of(whole), random.Random(11)
    for _ in range(NUM_FLIPS):
        damaged = bytearray(whole)
        place = generator.randrange(8 * len(whole))
        damaged[place // 8] ^= 1 << place % 8
        try:
            TimewarpMCMCIntegrator(written(bytes(damaged), Path(path).parent, "damaged.pt"))
        except openmm.OpenMMException:
            print("refused")
        else:
            # Between the members there are bytes that mean nothing, such as times and padding.
            try:
                same = directory_of(bytes(damaged)) == expected
            except NotImplementedError:  # Python's reader looks at the format's version, too
                same = True
            print("same" if same else f"altered at bit {place}")


def test_flipped_bits(model: bytes, tmp_path: Path) -> None:
    """None crashes the reader, and none is taken for a whole file unless its content is that."""
    code = f"import sys; sys.path += [{str(HERE)!r}, {str(Path(__file__).parent)!r}]; "
    code += f"from test_damaged_models import *; flip_bits({written(model, tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = done.stdout.split("\n")[:-1]
    assert len(results) == NUM_FLIPS
    assert set(results) == {"refused", "same"}
    assert results.count("refused") > NUM_FLIPS / 3
