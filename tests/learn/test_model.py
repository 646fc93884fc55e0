"""Networks, their weights, and the devices they run on."""

import pickle
import urllib.request

import pytest
import torch
from safetensors.torch import save_file

from popq.errors import BadInput, Misconfigured
from popq.learn.model import ARCHS, autocast_dtype, build, pick_device, to_score, versions


@pytest.fixture(scope="module")
def three():
    return build("resnet18", 3, "none").state_dict()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_from_a_file_are_taken_whole(three, tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    save_file(three, path) if kind == "safetensors" else torch.save(three, path)
    got = build("resnet18", 3, str(path)).state_dict()
    assert all(torch.equal(got[name], three[name]) for name in three)


def test_a_head_of_another_size_is_new(three, tmp_path):
    save_file(three, tmp_path / "w.safetensors")
    got = build("resnet18", 5, str(tmp_path / "w.safetensors")).state_dict()
    assert got["fc.weight"].shape == (5, 512)
    assert torch.equal(got["conv1.weight"], three["conv1.weight"])


def test_half_a_head_is_no_head(three, tmp_path):
    save_file(
        {name: t for name, t in three.items() if name != "fc.weight"}, tmp_path / "w.safetensors"
    )
    got = build("resnet18", 3, str(tmp_path / "w.safetensors")).state_dict()
    assert not torch.equal(got["fc.bias"], three["fc.bias"])


def test_weights_of_another_network_are_refused_by_the_first_tensor(three, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(three, path)
    with pytest.raises(BadInput, match=r"layer1\.0\.conv1\.weight should be \[64, 64, 1, 1\]"):
        build("resnet50", 3, str(path))
    save_file({name: t for name, t in three.items() if name != "bn1.bias"}, path)
    with pytest.raises(BadInput, match=r"bn1\.bias should be \[64\], there is nothing"):
        build("resnet18", 3, str(path))
    save_file(three | {"extra": torch.zeros(1)}, path)
    with pytest.raises(BadInput, match="it has extra"):
        build("resnet18", 3, str(path))


class Rude:
    def __reduce__(self):
        return print, ("code ran",)


def test_broken_missing_and_pickled_files_are_refused(tmp_path, capsys):
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    (tmp_path / "cut.pth").write_bytes(b"cut")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "rude.pth").write_bytes(pickle.dumps(Rude(), protocol=2))
    (tmp_path / "text.pth").write_bytes(b"hello\n")
    (tmp_path / "page.pth").write_bytes(b"<html>")
    torch.save({"model": {"conv1": torch.zeros(1)}}, tmp_path / "nested.pth")
    for name in ("cut.safetensors", *(path.name for path in tmp_path.glob("*.pth")), "gone.pth"):
        with pytest.raises(BadInput, match=name):
            build("resnet18", 3, str(tmp_path / name))
    assert "code ran" not in capsys.readouterr().out


def test_imagenet_out_of_reach_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    # What is made at the first request of a process keeps the proxies of then.
    monkeypatch.setattr(urllib.request, "_opener", None)
    with pytest.raises(Misconfigured, match=r"--weights PATH/resnet18-.*\.pth.*--weights none"):
        build("resnet18", 3, "imagenet")


def test_imagenet_weights_in_the_cache_are_used(three, tmp_path, monkeypatch):
    torch.save(three, cached(tmp_path, monkeypatch))
    got = build("resnet18", 4, "imagenet").state_dict()
    assert torch.equal(got["conv1.weight"], three["conv1.weight"])


@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps(Rude(), protocol=2)])
def test_a_broken_or_rude_file_in_the_cache_is_named_and_not_run(
    content, tmp_path, monkeypatch, capsys
):
    path = cached(tmp_path, monkeypatch)
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"{path.name} cannot be read.*may be deleted"):
        build("resnet18", 3, "imagenet")
    assert "code ran" not in capsys.readouterr().out


def cached(folder, monkeypatch):
    """Return where torch's cache in the folder has ImageNet's weights; its name is trusted."""
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415 - only its file's name

    monkeypatch.setenv("TORCH_HOME", str(folder))
    path = folder / "hub" / "checkpoints" / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    path.parent.mkdir(parents=True)
    return path


def test_unknown_networks_are_refused():
    with pytest.raises(BadInput, match="resnet50, resnet18"):
        build("vgg", 3, "none")


def test_devices(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(Misconfigured, match="--device cpu"):
        pick_device(absent)
    for name in ("gpu", "cuda:one", "cpu:x", ""):
        with pytest.raises(BadInput, match="No device"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(Misconfigured, match="sees 2 GPUs"):
        pick_device("cuda:2")


def test_precision_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert autocast_dtype(cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert autocast_dtype(cpu) is None
    assert versions(cpu)["precision"] == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert autocast_dtype(torch.device("cuda")) is torch.bfloat16


def test_versions_name_what_numbers_depend_on():
    got = versions(torch.device("cpu"))
    assert {"python", "torch", "torchvision", "device", "hardware", "precision"} == set(got)
    assert all(got.values())


def test_outputs_are_in_full_precision_also_where_the_network_is_not():
    model = build("resnet18", 1, "none").eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = model(torch.randn(2, 3, 32, 32))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_to_score_says_the_same_without_batch_norms(arch):
    torch.manual_seed(0)
    model = build(arch, 3, "none")
    images = torch.randn(4, 3, 64, 64)
    model.train()
    with torch.no_grad():
        model(images)  # its norms have seen something
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = to_score(model, torch.device("cpu"))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert model.training  # the copy alone is for looking
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        theirs, ours = model(images), folded(images)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
