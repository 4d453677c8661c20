"""Settings without effect are refused with one that has, or with the value that changes nothing."""

import pytest

from equipoise.errors import Setting, UserError
from equipoise.recipe import Augment, Recipe, checked, with_settings
from equipoise.tasks.idle import IDLE_ON_PHOTOGRAPHS, IDLE_ON_POINTS, refuse_idle_augmentation, refuse_without_effect


@pytest.mark.parametrize(
    ("augment", "remedy"),
    [
        (Augment(probability=0.7), Setting("augment.kinds", "translation,cutout")),
        (Augment(kinds=("flip",)), Setting("augment.probability", 0.5)),
    ],
)
def test_an_augmentation_without_effect_is_refused_once_the_data_are_known(augment: Augment, remedy: Setting) -> None:
    checked(Recipe(augment=augment))  # few images may still bring kinds of their own
    with pytest.raises(UserError) as caught:
        refuse_idle_augmentation(augment)
    assert remedy in caught.value.remedies


@pytest.mark.parametrize("idle", [IDLE_ON_POINTS, IDLE_ON_PHOTOGRAPHS])
def test_every_field_that_is_idle_on_a_task_is_one_of_a_recipe(idle: dict[str, object]) -> None:
    for field, without in idle.items():
        with pytest.raises(UserError) as caught:
            refuse_without_effect(Recipe(), "it", {field: object()})
        assert isinstance(caught.value.subject, Setting)
        assert caught.value.subject.field == field
        text = "" if without == () else str(without).lower()
        refuse_without_effect(with_settings(Recipe(), [f"{field}={text}"]), "it", {field: without})
