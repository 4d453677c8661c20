"""The two players' networks of a recipe."""

import math
from typing import Any, assert_never

import torch
from torch import nn

from equipoise.errors import Option, Setting, UserError, listed
from equipoise.nets.autoencoder import AutoencodingDiscriminator
from equipoise.nets.codes import CodedGenerator
from equipoise.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from equipoise.nets.efficientnet import LITE0, EfficientNetLite
from equipoise.nets.frozen import freeze_lowest
from equipoise.nets.growing import refuse_uneven
from equipoise.nets.heads import Asked, refitted
from equipoise.nets.layers import LabelledLatents, spectral_generator
from equipoise.nets.mlp import MLPDiscriminator, MLPGenerator
from equipoise.nets.modern import ModernDiscriminator, ModernGenerator
from equipoise.nets.projected import AidedDiscriminator, ProjectedDiscriminator
from equipoise.nets.resnet import ResNetDiscriminator, ResNetGenerator
from equipoise.nets.several import SeveralDiscriminators
from equipoise.nets.stacked import StackedDiscriminator, StackedGenerator, small_size
from equipoise.nets.style import StyleDiscriminator, StyleGenerator
from equipoise.recipe import FamilyName, Networks
from equipoise.sizes import MIN_SIDE, GivenSize, Size, size_of


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
    discriminator = _own_discriminators(networks, size, channels, num_classes, packing)
    if networks.stacked:
        first = _own_discriminators(networks, small_size(size).given, channels, num_classes, packing)
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
        num_classes=_num_projected(networks, num_classes),
        width=networks.width,
        minibatch_deviation=networks.minibatch_deviation,
    )
    asked = _asked(networks, num_classes).told
    return generator, AidedDiscriminator(discriminator, refitted(projected, asked, spectral_norm=True))


def make_generator(networks: Networks, *, size: GivenSize, channels: int, num_classes: int) -> nn.Module:
    """Return the generator of a family; raises UserError for options that the family does not have.

    Where its latents have codes, it stands within a `CodedGenerator`.
    """
    own = _own_generator(networks, size, channels, num_classes)
    if num_classes and networks.label_scale != 1:
        _scale_labels(own, networks)
    if not networks.categorical_codes + networks.continuous_codes:
        return own
    return CodedGenerator(own, networks.categorical_codes, networks.continuous_codes)


def _scale_labels(generator: nn.Module, networks: Networks) -> None:
    """Draw the labels' vectors beside the latents at their scale; raises UserError where there are none."""
    scale = networks.label_scale
    inputs = [one for one in generator.modules() if isinstance(one, LabelledLatents)]
    tables = [one.embedding for one in inputs if one.embedding is not None]
    if not tables:
        problem = "this generator is told the label by its batch norms, and has no vector of it beside the latents"
        without_norm = () if networks.latent_skips else (Setting("networks.generator_norm", "none"),)
        plain = Setting("networks.label_scale", 1)
        raise UserError(Setting("networks.label_scale", scale), problem, plain, *without_norm)
    with torch.no_grad():
        for table in tables:
            table.weight.mul_(scale)


def _own_generator(networks: Networks, size: GivenSize, channels: int, num_classes: int) -> nn.Module:
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
    generator = _family_generator(networks, options)
    if networks.stacked:
        first = _family_generator(networks, {**options, "size": small_size(size).given})
        generator = StackedGenerator(first, samples=networks.stacked, **options, norm=networks.generator_norm)
    if networks.generator_spectral_norm:
        spectral_generator(generator)
    return generator


def _family_generator(networks: Networks, options: dict[str, Any]) -> nn.Module:
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


def _own_discriminators(
    networks: Networks, size: GivenSize, channels: int, num_classes: int, packing: int
) -> nn.Module:
    """Return the family's discriminator, or all of them; the first one alone is asked more than a logit."""
    if networks.autoencoder:
        _refuse_other_autoencoders(networks)
    sizes = _sizes_of_scales(networks.scales, size)
    asked = _asked(networks, num_classes)
    judges: list[nn.Module] = []
    halvings: list[int] = []
    for halving, smaller in enumerate(sizes):
        for _ in range(networks.discriminators):
            judge = _own_discriminator(networks, smaller, channels, num_classes, packing)
            judges.append(refitted(judge, asked if not judges else asked.told, networks.spectral_norm))
            halvings.append(halving)
    return judges[0] if len(judges) == 1 else SeveralDiscriminators(judges, halvings)


def _own_discriminator(networks: Networks, size: GivenSize, channels: int, num_classes: int, packing: int) -> nn.Module:
    options: dict[str, Any] = {
        "size": size,
        "channels": channels,
        "num_classes": _num_projected(networks, num_classes),
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
        case "dcgan" if networks.autoencoder:
            encoder = DCGANDiscriminator(**with_norms, attention=networks.attention)
            return _autoencoder(networks, size, channels, encoder)
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
    if networks.stacked:
        _sizes_of_scales(networks.scales, small_size(size).given, " in stage one of networks.stacked")


def _have(families: tuple[FamilyName, ...]) -> str:
    return "has" if len(families) == 1 else "have"


def _autoencoder(networks: Networks, size: GivenSize, channels: int, encoder: DCGANDiscriminator) -> nn.Module:
    """Return a discriminator that encodes as the family's own and decodes as its generator."""
    norm = networks.discriminator_norm
    shape: dict[str, Any] = {"size": size, "channels": channels, "num_classes": 0, "width": networks.width}
    decoder = DCGANGenerator(**shape, latent_size=networks.latent_size, norm=norm)
    return AutoencodingDiscriminator(encoder, decoder, networks.latent_size, norm)


def _num_projected(networks: Networks, num_classes: int) -> int:
    """Return how many classes a family's own head is told."""
    return num_classes if networks.condition == "projection" else 0


def _asked(networks: Networks, num_classes: int) -> Asked:
    """Return what the heads of discriminators are told and asked besides."""
    return Asked(
        concatenated=num_classes if networks.condition == "concatenation" else 0,
        named=num_classes if networks.condition == "naming" else 0,
        codes=networks.categorical_codes + networks.continuous_codes,
    )


def _sizes_of_scales(num: int, size: GivenSize, where: str = "") -> list[GivenSize]:
    """Return the sizes of an image halved 0, 1, … times; raises UserError where the smallest is too small."""
    sizes = [size_of(size)]
    while len(sizes) < num:
        smaller = Size(*(math.ceil(side / 2) for side in sizes[-1]))
        if min(smaller) < MIN_SIDE:
            often = "once" if len(sizes) == 1 else f"{len(sizes)} times"
            problem = f"images of {sizes[0]} pixels{where}, halved {often}, have less than {MIN_SIDE} a side"
            raise UserError(Setting("networks.scales", num), problem, Setting("networks.scales", len(sizes)))
        sizes.append(smaller)
    return [one.given for one in sizes]


def _refuse_other_autoencoders(networks: Networks) -> None:
    if networks.family != "dcgan":
        subject = Setting("networks.autoencoder", True)
        problem = f"the {networks.family} family has no autoencoder; dcgan has one"
        raise UserError(subject, problem, Setting("networks.family", "dcgan"), Option("recipe", "ebgan"))


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
