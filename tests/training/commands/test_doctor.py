"""`tubevit doctor`: its report, and the problems that it finds."""

import torch

from tubevit.training.cli import main
from tubevit.training.commands import doctor


def test_doctor_restores_the_matmul_precision(capsys):
    before = torch.get_float32_matmul_precision()
    assert main(["doctor", "--seconds", "0"]) == 0
    out = capsys.readouterr().out
    assert torch.get_float32_matmul_precision() == before
    assert all(title in out for title in ("versions", "machine", "video decoding", "attention", "GFLOP/s"))


def test_doctor_explains_the_effect_of_medium():
    fast = {"highest": {"gflops": 100.0, "error": 7e-7}, "medium": {"gflops": 200.0, "error": 8e-7}}
    rounded = {**fast, "medium": {"gflops": 200.0, "error": 2e-3}}
    useless = {**fast, "medium": {"gflops": 101.0, "error": 8e-7}}
    for measured, word in ((fast, "full accuracy"), (rounded, "rounds"), (useless, None)):
        warnings = []
        lines = doctor.describe_matmul(measured, warnings)
        assert ("is not faster" in lines["verdict"]) == (word is None)
        assert bool(warnings) == (word is not None)
        assert word is None or word in warnings[0]


def test_doctor_finds_a_torchvision_built_for_another_torch(monkeypatch):
    assert doctor.find_broken_operators() == []

    def broken(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", broken)
    assert "install both in one command" in doctor.find_broken_operators()[0]


def test_doctor_compares_versions_with_requirements(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda package: ["torch>=2.6", 'av>=1; extra == "x"', "numpy"])
    found = {"tubevit": "0.1", "torch": "2.5.1", "av": "0.1"}
    problems = doctor._unmet("tubevit", ("torch", "av"), found)
    assert len(problems) == 1
    assert "torch" in problems[0]
    assert "2.5.1" in problems[0]
    assert doctor._unmet("tubevit", ("torch", "av"), {**found, "torch": "2.6.0"}) == []
