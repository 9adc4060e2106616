"""A model file can do nothing but compute, unless it is trusted; and it can be interrupted."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openmm
import pytest
import reference_models
import torch
from model_archives import edited, members_of, replaced, written
from reference_models import Identity, any_molecule, normal_log_density, save_model
from signals import signal_after
from torch import Tensor

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained, read_metadata
from timewarp_openmm.contract import ContractError
from timewarp_openmm.flows import export_model
from timewarp_openmm.flows.loading import load_module

HERE = Path(reference_models.__file__).parent
REFUSED = "refused before it ran"
REFUSED_OR_NOT_COMPILED = r"refused before it ran|cannot be read"


class WritesInSample(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.save(x, self.target)
        w = noise.view(noise.size(0), x.size(0), 3)
        return x.expand(noise.size(0), x.size(0), 3), w, normal_log_density(w)


class WritesInAMethodThatNobodyCalls(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def unused(self, x: Tensor) -> Tensor:
        for i in range(3):
            if i == 2:
                torch.save(x, self.target)
        return x


def save_twice(x: Tensor, target: str) -> Tensor:
    torch.save(x, target)
    return x


class Part(torch.nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        return save_twice(x, self.target)


class WritesInAPart(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.part = Part(target)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.part(w).flatten(1)


class WritesWhenItIsRead(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.target, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.target = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), self.target)


class ReadsAFile(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def unused(self) -> Tensor:
        return torch.from_file(self.target, True, 10)


class Prints(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()

    @torch.jit.export
    def unused(self, x: Tensor) -> None:
        print(x)


class Draws(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()

    @torch.jit.export
    def unused(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


class ChangesItself(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.count = 0

    @torch.jit.export
    def unused(self) -> int:
        self.count += 1
        return self.count


def wait_and_return(x: Tensor) -> Tensor:
    return x


class Forks(Identity):
    def __init__(self, target: str) -> None:
        super().__init__()

    @torch.jit.export
    def unused(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(wait_and_return, x))


HOSTILE: dict[type[Identity], str] = {
    WritesInSample: "aten::save",
    WritesInAMethodThatNobodyCalls: "aten::save",
    WritesInAPart: "aten::save",
    WritesWhenItIsRead: "__getstate__",
    ReadsAFile: "aten::from_file",
    Prints: "prim::Print",
    Draws: "aten::randn_like",
    ChangesItself: "prim::SetAttr",
    Forks: "aten::wait",
}


def hostile_file(kind: type[Identity], folder: Path) -> tuple[str, Path]:
    """Return a model file, and the file that it writes when it is let."""
    target = folder / "written-by-the-model"
    path = folder / "model.pt"
    save_model(kind(str(target)), any_molecule(12, reference_positions=[[0.0] * 3] * 4), path)
    assert not target.exists()
    return str(path), target


def is_refused(action: Callable[[], object], operator: str) -> None:
    with pytest.raises((openmm.OpenMMException, ContractError), match=REFUSED) as refused:
        action()
    assert operator in str(refused.value)
    assert "trust=True" in str(refused.value)


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_of_a_hostile_model_runs(kind: type[Identity], tmp_path: Path) -> None:
    path, target = hostile_file(kind, tmp_path)
    read_metadata(path)
    is_refused(lambda: TimewarpMCMCIntegrator(path), HOSTILE[kind])
    blocks = TimewarpMCMCIntegrator(temperature=300)
    is_refused(lambda: blocks.addBlock(path, [0, 1, 2]), HOSTILE[kind])
    is_refused(lambda: load_module(path), HOSTILE[kind])
    assert not target.exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_nor_inside_xml(kind: type[Identity], tmp_path: Path) -> None:
    """Whether the XML names the file, or holds it; as the only model, or as that of a block."""
    import base64

    path, target = hostile_file(kind, tmp_path)
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    encoded = base64.b64encode(content).decode()
    kind_of = '<Integrator type="TimewarpMCMCIntegrator"'
    first = f'{kind_of} version="1" modelPath="{path}"'
    models = f'<Models><Model sha256="{digest}" content="{encoded}"/></Models>'
    block = f'<Blocks><Block modelPath="{path}" modelSha256="{digest}"/></Blocks></Integrator>'
    second = f'{kind_of} version="2" hasModel="0" temperature="300">'
    for xml in (
        f"{first}/>",
        f'{first} modelSha256="{digest}" modelContent="{encoded}"/>',
        f"{second}{block}",
        f"{second}{models}{block}",
    ):
        is_refused(lambda xml=xml: openmm.XmlSerializer.deserialize(xml), HOSTILE[kind])  # type: ignore[misc]
    assert not target.exists()


class HostileEnergy(torch.nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    def forward(self, positions: Tensor) -> Tensor:
        torch.save(positions, self.target)
        return positions.double().square().sum([1, 2])


def test_nor_of_a_hostile_surrogate(tmp_path: Path) -> None:
    import base64

    target, path = tmp_path / "written-by-the-surrogate", tmp_path / "surrogate.pt"
    torch.jit.save(torch.jit.script(HostileEnergy(str(target))), str(path))
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    is_refused(lambda: integrator.setSurrogate(path), "aten::save")
    xml = openmm.XmlSerializer.serialize(integrator)
    content = base64.b64encode(path.read_bytes()).decode()
    xml = xml.replace("<Integrator ", f'<Integrator surrogate="{content}" ', 1)
    is_refused(lambda: openmm.XmlSerializer.deserialize(xml), "aten::save")
    assert not target.exists()
    integrator.setSurrogate(path, trust=True)
    openmm.XmlSerializer.deserialize(xml)


def test_a_trusted_model_runs(tmp_path: Path) -> None:
    path, target = hostile_file(WritesInSample, tmp_path)
    is_refused(lambda: TimewarpMCMCIntegrator(path), "aten::save")
    integrator = TimewarpMCMCIntegrator(path, trust=True, embedModel=True)
    assert target.exists()
    # Trust is of the content, in this process: copies of it are read, too.
    openmm.XmlSerializer.clone(integrator)
    # Another file in its place is another file.
    (tmp_path / "other").mkdir()
    other, _ = hostile_file(Prints, tmp_path / "other")
    is_refused(lambda: TimewarpMCMCIntegrator(other), "prim::Print")


def test_trust_by_digest_for_child_processes(tmp_path: Path) -> None:
    path, target = hostile_file(WritesInSample, tmp_path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    code = f"import timewarp_openmm as t; t.TimewarpMCMCIntegrator({path!r})"

    def run(code: str, trusted: str) -> str:
        environment = {**os.environ, "TIMEWARP_TRUSTED_FILES": trusted}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr

    assert digest in run(code, "0" * 64)
    assert "not a SHA-256 digest" in run(code, "model.pt")
    assert not target.exists()
    assert run(code, f"{'0' * 64},{digest.upper()}") == ""
    assert target.exists()
    target.unlink()
    assert run(code.replace("; ", f"; t.trust({digest!r}); "), "") == ""
    assert target.exists()


def test_export_says_what_others_will_be_refused(tmp_path: Path) -> None:
    metadata = any_molecule(12, reference_positions=[[0.1 * i, 0.0, 0.0] for i in range(4)])
    flow, path = WritesInSample(str(tmp_path / "written")), tmp_path / "exported.pt"
    is_refused(lambda: export_model(flow, metadata, path), "aten::save")
    assert not path.exists()
    export_model(flow, metadata, path, trust=True)
    assert path.exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a harmless model."""
    path = tmp_path_factory.mktemp("plain") / "identity.pt"
    save_model(Identity(), any_molecule(12), path)
    return path.read_bytes()


def code_of(content: bytes, member: str) -> str:
    return dict(members_of(content))[member].decode()


CODE = "code/__torch__/reference_models.py"
OWN_CODE = "code/__torch__/test_hostile_models.py"
NORMAL = b"def normal_log_density(z: Tensor) -> Tensor:\n"


CAST = "unchecked_cast(__torch__.reference_models.Identity, z)"


def with_line(plain: bytes, line: str) -> bytes:
    """Put a line into a function's code, as somebody would who writes the archive by hand."""
    return edited(plain, {CODE: replaced(NORMAL, NORMAL + f"  {line}\n".encode())})


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('torch.save(z, "/tmp/x")', "aten::save"),
        ('torch . save(z, "/tmp/x")', "aten::save"),
        ("t = torch", "the operator"),
        ('t = getattr(torch, "save")', "the operator"),
        ("q = ops.quantized.quantize(z)", "quantized::quantize"),
        ("q = ops.aten._foobar(z)", "aten::_foobar"),
        ("o = ops", "the operator"),
        ('z.save("/tmp/x")', "save"),
        ("c = __torch__.torch.classes.quantized.LinearPackedParamsBase", "torch.classes"),
        ("r = normal_log_density(z)", ""),
        ("r = __torch__.reference_models.normal_log_density(z, )", "recursive"),
        (f"n = {'(' * 5000}1{')' * 5000}", "nested too deeply"),
        (f"n = {'-' * 50000}1", "nested too deeply"),
        (f"n = {' + '.join(['1'] * 50000)}", "nested too deeply"),
        (f"n = {'not ' * 50000}True", "nested too deeply"),
        (f"n = z{'.T' * 50000}", "nested too deeply"),
        (f"z = torch.mul(z, int({CAST}.training))", "unchecked_cast"),
    ],
)
def test_code_written_by_hand(plain: bytes, line: str, named: str, tmp_path: Path) -> None:
    path = written(with_line(plain, line), tmp_path)
    with pytest.raises(openmm.OpenMMException, match=REFUSED_OR_NOT_COMPILED) as error:
        TimewarpMCMCIntegrator(path)
    assert named in str(error.value)


def test_calls_that_double_without_a_loop(plain: bytes, tmp_path: Path) -> None:
    """Sixty functions that each call the one before twice: a call that ends in a billion years."""
    functions = ["def f0(z: Tensor) -> Tensor:\n  return torch.neg(z)\n"]
    for i in range(1, 60):
        before = f"__torch__.reference_models.f{i - 1}"
        functions.append(f"def f{i}(z: Tensor) -> Tensor:\n  return {before}({before}(z, ), )\n")
    code = code_of(plain, CODE).replace("class Identity", "".join(functions) + "class Identity")
    code = code.replace(
        NORMAL.decode(), NORMAL.decode() + "  y = __torch__.reference_models.f59(z, )\n"
    )
    content = edited(plain, {CODE: lambda _: code.encode()})
    with pytest.raises(openmm.OpenMMException, match="too many operations"):
        TimewarpMCMCIntegrator(written(content, tmp_path))


PICKLES: dict[str, bytes] = {
    "a class of torch's own": b"\x80\x02c__torch__.torch.classes.quantized\nLinear\n)\x81.",
    "a function of Python": b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lst(R.",
    "nested deeply": b"\x80\x02N" + b"\x85" * 100_000 + b".",
    "a list in itself": b"\x80\x02]q\x00(h\x00e.",
    "marks that are missing": b"\x80\x02]e.",
    "nothing on the stack": b"\x80\x02R.",
    "a value that was never kept": b"\x80\x02h\x07.",
    "no end": b"\x80\x02N",
    "a text without an end": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "two values": b"\x80\x02NN.",
    "an unknown instruction": b"\x80\x02N0N.",
    "a type tag that is not one": b"\x80\x02ctorch.jit._pickle\nrestore_type_tag\n(tR.",
    "room for four billion values": b"\x80\x02}r\xf0\xff\xff\xff.",
    "a million values and more": b"\x80\x02](" + b"N" * 1_100_000 + b"e.",
    "a list of other things": b"\x80\x02ctorch.jit._pickle\nbuild_intlist\n](Neq\x00\x85R.",
}


@pytest.mark.parametrize("fault", PICKLES)
@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl", f"{CODE}.debug_pkl"])
def test_pickles(plain: bytes, fault: str, member: str, tmp_path: Path) -> None:
    path = written(edited(plain, {member: lambda _: PICKLES[fault]}), tmp_path)
    with pytest.raises(openmm.OpenMMException, match=f"{REFUSED}: a pickle in it"):
        TimewarpMCMCIntegrator(path)


def test_attributes_are_what_their_classes_say(tmp_path: Path) -> None:
    """A part of another class, whose attributes lie elsewhere: torch would read beside them."""
    path = tmp_path / "model.pt"
    save_model(WritesInAPart("x"), any_molecule(12), path)
    whole = path.read_bytes()
    code = re.sub(r"torch\.save\(.*\)\n", "torch.neg(x)\n", code_of(whole, OWN_CODE))
    harmless = edited(whole, {OWN_CODE: lambda _: code.encode()})
    TimewarpMCMCIntegrator(written(harmless, tmp_path))
    other = "class Other(Module):\n  training : bool\n  _is_full_backward_hook : Optional[bool]\n"
    other += "  target : str\n"
    content = edited(
        harmless,
        {
            "data.pkl": replaced(b"test_hostile_models\nPart\n", b"test_hostile_models\nOther\n"),
            OWN_CODE: lambda member: other.encode() + member,
        },
    )
    with pytest.raises(openmm.OpenMMException, match="attribute part is not of the type"):
        TimewarpMCMCIntegrator(written(content, tmp_path))


class NeverReturns(Identity):
    """Waits for what never comes, once the lag time is above 1 ps."""

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rounds = 0
        while bool((lag > 1.0).all()):
            rounds += 1
        w = noise.view(noise.size(0), x.size(0), 3)
        return x.expand(noise.size(0), x.size(0), 3) + 0.01 * rounds, w, normal_log_density(w)


def four_particles() -> openmm.System:
    system = openmm.System()
    for _ in range(4):
        system.addParticle(10.0)
    return system


def test_a_step_that_never_returns_can_be_interrupted(tmp_path: Path, platform: str) -> None:
    path = tmp_path / "model.pt"
    metadata = any_molecule(12, lag_times=[1.0, 2.0], lag_weights=[0.5, 0.5])
    save_model(NeverReturns(), metadata, path)
    integrator = TimewarpMCMCIntegrator(path)
    integrator.setLagWeights([0.0, 1.0])
    context = openmm.Context(
        four_particles(), integrator, openmm.Platform.getPlatformByName(platform)
    )
    context.setPositions([[0.0, 0.0, 0.0]] * 4)
    with pytest.raises(KeyboardInterrupt), signal_after(0.5) as sent:
        integrator.step(10)
    assert time.monotonic() - sent[0] < 5.0
    assert integrator.getNumProposed() == 0
    # The chain goes on.
    integrator.setLagWeights([1.0, 0.0])
    integrator.step(10)
    assert integrator.getNumAccepted() == 10


def interrupted_reader(path: Path, times: int) -> tuple[int, str]:
    """Read a model in a child process that gets Ctrl-C; return its exit code and last words."""
    code = "import signal, timewarp_openmm.integrator as t; "
    code += "signal.signal(2, signal.default_int_handler); print('ready', flush=True); "
    code += f"t.TimewarpMCMCIntegrator({str(path)!r})"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(3.0)
        for _ in range(times):
            assert child.poll() is None
            child.send_signal(signal.SIGINT)
            time.sleep(0.5)
        return child.wait(timeout=20), child.communicate()[1]
    finally:
        child.kill()
        child.communicate()


def test_so_can_the_checks_of_a_model_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    metadata = any_molecule(12, lag_times=[2.0], reference_positions=[[0.0] * 3] * 4)
    save_model(NeverReturns(), metadata, path)
    status, words = interrupted_reader(path, times=1)
    assert status != 0
    assert "KeyboardInterrupt" in words or "was interrupted" in words


class OneLongOperation(Identity):
    """A hundred products of large matrices in one operation, which cannot be stopped inside."""

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        power = torch.matrix_power(torch.eye(2000).expand(8, 2000, 2000), (1 << 62) - 1)
        w = noise.view(noise.size(0), x.size(0), 3)
        return x.expand(noise.size(0), x.size(0), 3) * power[0, 0], w, normal_log_density(w)


def test_a_second_ctrl_c_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(OneLongOperation(), any_molecule(12, reference_positions=[[0.0] * 3] * 4), path)
    assert interrupted_reader(path, times=2)[0] == -signal.SIGINT
