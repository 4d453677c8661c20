"""The two players' networks of a recipe."""

from typing import assert_never

from torch import nn

from equipoise.errors import Setting, UserError
from equipoise.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from equipoise.nets.mlp import MLPDiscriminator, MLPGenerator
from equipoise.nets.modern import ModernDiscriminator, ModernGenerator
from equipoise.nets.resnet import ResNetDiscriminator, ResNetGenerator
from equipoise.recipe import Networks
from equipoise.sizes import GivenSize


def make_players(
    networks: Networks, *, size: GivenSize, channels: int, num_classes: int, packing: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return (generator, discriminator) for images of a size; weights are drawn from torch's global generator.

    The generator maps latents [N, Z] and labels [N] to images [N, C, H, W], the discriminator images and
    labels to logits [N], one for each pack of `packing` images; labels are ignored if `num_classes` is 0.
    Raises UserError for options that the family does not have.
    """
    for_generator = {"latent_size": networks.latent_size, "norm": networks.generator_norm}
    shape = {"size": size, "channels": channels, "num_classes": num_classes, "width": networks.width}
    judged = {"packing": packing, "minibatch_deviation": networks.minibatch_deviation}
    for_discriminator = {
        **judged,
        "norm": networks.discriminator_norm,
        "spectral_norm": networks.spectral_norm,
        "dropout": networks.dropout,
    }
    match networks.family:
        case "mlp":
            return MLPGenerator(**shape, **for_generator), MLPDiscriminator(**shape, **for_discriminator)
        case "dcgan":
            return DCGANGenerator(**shape, **for_generator), DCGANDiscriminator(**shape, **for_discriminator)
        case "resnet":
            return ResNetGenerator(**shape, **for_generator), ResNetDiscriminator(**shape, **for_discriminator)
        case "modern":
            _refuse_normalisation(networks)
            generator = ModernGenerator(**shape, latent_size=networks.latent_size)
            return generator, ModernDiscriminator(**shape, **judged, dropout=networks.dropout)
        case _ as unreachable:
            assert_never(unreachable)


def _refuse_normalisation(networks: Networks) -> None:
    """Refuse norms: fix-up initialisation replaces them, and a layer of zeros has no spectral norm."""
    for name, plain in (("generator_norm", "none"), ("discriminator_norm", "none"), ("spectral_norm", False)):
        value = getattr(networks, name)
        if value != plain:
            raise UserError(
                Setting(f"networks.{name}", value),
                "the modern family works without normalisation",
                Setting(f"networks.{name}", plain),
                Setting("networks.family", "resnet"),
            )
