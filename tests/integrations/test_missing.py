"""Where a library is missing, its callback says what to install."""

import importlib
import importlib.util
import sys

import pytest

from equipoise.errors import UserError


@pytest.mark.parametrize(
    ("module", "hidden"),
    [
        ("lightning", ["lightning", "lightning.pytorch", "pytorch_lightning"]),
        ("keras", ["keras", "keras.callbacks"]),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, hidden: list[str]
) -> None:
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"equipoise.integrations.{module}", raising=False)
    with pytest.raises(UserError) as error:
        importlib.import_module(f"equipoise.integrations.{module}")
    assert error.value.subject == module.capitalize()
    assert f"equipoise[{module}]" in str(error.value)


def test_pytorch_lightning_alone_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pytorch_lightning") is None:
        pytest.skip("pytorch_lightning is not installed")
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "equipoise.integrations.lightning", raising=False)
    callback = importlib.import_module("equipoise.integrations.lightning").WatchCallback
    assert any(base.__module__.startswith("pytorch_lightning") for base in callback.__mro__)
    monkeypatch.delitem(sys.modules, "equipoise.integrations.lightning")
