"""The two players' networks of a recipe."""

from typing import Any, assert_never

import torch
from torch import nn

from equipoise.errors import Option, Setting, UserError, listed
from equipoise.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from equipoise.nets.efficientnet import LITE0, EfficientNetLite
from equipoise.nets.frozen import freeze_lowest
from equipoise.nets.growing import refuse_uneven
from equipoise.nets.layers import spectral_generator
from equipoise.nets.mlp import MLPDiscriminator, MLPGenerator
from equipoise.nets.modern import ModernDiscriminator, ModernGenerator
from equipoise.nets.projected import AidedDiscriminator, ProjectedDiscriminator
from equipoise.nets.resnet import ResNetDiscriminator, ResNetGenerator
from equipoise.nets.stacked import StackedDiscriminator, StackedGenerator, small_size
from equipoise.nets.style import StyleDiscriminator, StyleGenerator
from equipoise.recipe import FamilyName, Networks
from equipoise.sizes import GivenSize


def make_players(
    networks: Networks,
    *,
    size: GivenSize,
    channels: int,
    num_classes: int,
    packing: int = 1,
    pretrained: EfficientNetLite | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Return (generator, discriminator) for images of a size; weights are drawn from torch's global generator.

    The generator maps latents [N, Z] and labels [N] to images [N, C, H, W], the discriminator images and
    labels to logits [N], one for each pack of `packing` images; labels are ignored if `num_classes` is 0.
    `pretrained` is the network whose features it also judges, if the recipe says so; without one, one of no weights
    takes its place, to look at shapes. Raises UserError for options that the family does not have.
    """
    generator = make_generator(networks, size=size, channels=channels, num_classes=num_classes)
    discriminator = _own_discriminator(networks, size, channels, num_classes, packing)
    if networks.stacked:
        first = _own_discriminator(networks, small_size(size).given, channels, num_classes, packing)
        discriminator = StackedDiscriminator(first, discriminator, samples=networks.stacked, size=size)
    freeze_lowest(discriminator, networks.frozen)
    if not networks.pretrained:
        return generator, discriminator
    _refuse_beside_pretrained(channels, packing)
    if pretrained is None:
        with torch.device("meta"):
            pretrained = EfficientNetLite(LITE0)
    projected = ProjectedDiscriminator(
        pretrained,
        size=size,
        num_classes=num_classes,
        width=networks.width,
        minibatch_deviation=networks.minibatch_deviation,
    )
    return generator, AidedDiscriminator(discriminator, projected)


def make_generator(networks: Networks, *, size: GivenSize, channels: int, num_classes: int) -> nn.Module:
    """Return the generator of a family; raises UserError for options that the family does not have."""
    options: dict[str, Any] = {
        "size": size,
        "channels": channels,
        "num_classes": num_classes,
        "width": networks.width,
        "latent_size": networks.latent_size,
    }
    if networks.smooth and networks.family != "dcgan":
        problem = "only the generator of the dcgan family has what it smooths"
        subject = Setting("networks.smooth", True)
        without = Setting("networks.smooth", False)
        raise UserError(subject, problem, Setting("networks.family", "dcgan"), without, Option("recipe", "modern"))
    _refuse_unfit(networks, size)
    generator = _own_generator(networks, options)
    if networks.stacked:
        first = _own_generator(networks, {**options, "size": small_size(size).given})
        generator = StackedGenerator(first, samples=networks.stacked, **options, norm=networks.generator_norm)
    if networks.generator_spectral_norm:
        spectral_generator(generator)
    return generator


def _own_generator(networks: Networks, options: dict[str, Any]) -> nn.Module:
    with_norm: dict[str, Any] = {**options, "norm": networks.generator_norm}
    grown: dict[str, Any] = {"growing": networks.growing}
    attending: dict[str, Any] = {"attention": networks.attention, **grown}
    match networks.family:
        case "mlp":
            return MLPGenerator(**with_norm)
        case "dcgan":
            return DCGANGenerator(**with_norm, **attending, smooth=networks.smooth)
        case "resnet":
            skips: dict[str, Any] = {"latent_skips": networks.latent_skips, "orthogonal": networks.orthogonal}
            return ResNetGenerator(**with_norm, **attending, **skips)
        case "modern":
            _refuse_normalisation(networks)
            return ModernGenerator(**options, **grown)
        case "style":
            _refuse_normalisation(networks)
            return StyleGenerator(**options)
        case _ as unreachable:
            assert_never(unreachable)


def _own_discriminator(networks: Networks, size: GivenSize, channels: int, num_classes: int, packing: int) -> nn.Module:
    options: dict[str, Any] = {
        "size": size,
        "channels": channels,
        "num_classes": num_classes,
        "width": networks.width,
        "packing": packing,
        "minibatch_deviation": networks.minibatch_deviation,
        "dropout": networks.dropout,
    }
    with_norms = {**options, "norm": networks.discriminator_norm, "spectral_norm": networks.spectral_norm}
    grown: dict[str, Any] = {"growing": networks.growing}
    attending: dict[str, Any] = {"attention": networks.attention, **grown}
    match networks.family:
        case "mlp":
            return MLPDiscriminator(**with_norms)
        case "dcgan":
            return DCGANDiscriminator(**with_norms, **attending)
        case "resnet":
            return ResNetDiscriminator(**with_norms, **attending, orthogonal=networks.orthogonal)
        case "modern":
            return ModernDiscriminator(**options, **grown)
        case "style":
            return StyleDiscriminator(**options)
        case _ as unreachable:
            assert_never(unreachable)


def _refuse_unfit(networks: Networks, size: GivenSize) -> None:
    """Refuse settings that the family has no place for, or that do not go together."""
    only: dict[str, tuple[FamilyName, ...]] = {
        "attention": ("resnet", "dcgan"),
        "generator_spectral_norm": ("resnet", "dcgan", "mlp"),
        "latent_skips": ("resnet",),
        "orthogonal": ("resnet",),
        "growing": ("dcgan", "resnet", "modern"),
        "stacked": ("dcgan", "resnet", "modern"),
    }
    plain = Networks()
    for name, families in only.items():
        value = getattr(networks, name)
        if value and networks.family not in families:
            problem = f"the {networks.family} family has nothing of the kind; {listed(families)} {_have(families)} it"
            ways = (Setting("networks.family", families[0]), Setting(f"networks.{name}", getattr(plain, name)))
            raise UserError(Setting(f"networks.{name}", value), problem, *ways)
    if networks.latent_skips and networks.generator_norm == "none":
        problem = "with networks.generator_norm=none: the pieces of the latents act through the norms of the blocks"
        ways = (Setting("networks.generator_norm", "batch"), Setting("networks.latent_skips", False))
        raise UserError(Setting("networks.latent_skips", True), problem, *ways)
    together = (
        ("growing", "frozen", "the stages next to the pixels are the last that come in"),
        ("stacked", "frozen", "the discriminator of the full size is new in stage two"),
        ("stacked", "growing", "both say when pictures become larger"),
        ("stacked", "attention", "the small pictures of stage one have no such features"),
    )
    for name, other, why in together:
        value, beside = getattr(networks, name), getattr(networks, other)
        if value and beside:
            ways = (Setting(f"networks.{name}", 0), Setting(f"networks.{other}", 0))
            raise UserError(Setting(f"networks.{name}", value), f"with networks.{other}={beside}: {why}", *ways)
    if networks.growing:
        refuse_uneven(size, networks.growing)


def _have(families: tuple[FamilyName, ...]) -> str:
    return "has" if len(families) == 1 else "have"


def _refuse_beside_pretrained(channels: int, packing: int) -> None:
    """Refuse what a pretrained network cannot see."""
    asked = Setting("networks.pretrained", True)
    without = Setting("networks.pretrained", False)
    if channels not in (1, 3):
        raise UserError(asked, f"the images have {channels} channels; it sees 1 or 3", without)
    if packing > 1:
        raise UserError(asked, "it sees each image alone, and packs hold several", Setting("game.packing", 1), without)


def _refuse_normalisation(networks: Networks) -> None:
    """Refuse norms: fix-up initialisation or styles replace them, and a layer of zeros has no spectral norm."""
    for name, plain in (("generator_norm", "none"), ("discriminator_norm", "none"), ("spectral_norm", False)):
        value = getattr(networks, name)
        if value != plain:
            raise UserError(
                Setting(f"networks.{name}", value),
                f"the {networks.family} family works without normalisation",
                Setting(f"networks.{name}", plain),
                Setting("networks.family", "resnet"),
            )
