"""A discriminator whose stages next to the pixels keep what they have learned from other images (arXiv:2002.10964).

What they see is common to most images, so that few new ones teach the other stages alone. Their weights become buffers:
no optimizer sees them, and checkpoints have them.
"""

from torch import nn

from equipoise.errors import Setting, UserError
from equipoise.nets.autoencoder import AutoencodingDiscriminator
from equipoise.nets.dcgan import DCGANDiscriminator
from equipoise.nets.layers import MinibatchDeviation
from equipoise.nets.modern import ModernDiscriminator
from equipoise.nets.projected import AidedDiscriminator, freeze
from equipoise.nets.resnet import ResNetDiscriminator
from equipoise.nets.several import SeveralDiscriminators
from equipoise.nets.style import StyleDiscriminator


def stages_of(discriminator: nn.Module) -> list[list[nn.Module]]:
    """Return the stages of a discriminator from the pixels on, each as its modules; without stages there are none.

    Beside a projected discriminator they are those of the family's own. What follows them to the logit is none.
    """
    match discriminator:
        case AidedDiscriminator():
            return stages_of(discriminator.own)
        case SeveralDiscriminators():  # a stage is that of all of them
            of_each = zip(*map(stages_of, discriminator.judges), strict=False)
            return [[module for part in parts for module in part] for parts in of_each]
        case AutoencodingDiscriminator():
            return stages_of(discriminator.encoder)
        case DCGANDiscriminator():
            return [[stage] for stage in discriminator.downwards]
        case ResNetDiscriminator():
            return [[block] for block in discriminator.blocks if not isinstance(block, MinibatchDeviation)]
        case ModernDiscriminator():
            entries = [discriminator.from_pixels, *discriminator.transitions]
            return [[entry, stage] for entry, stage in zip(entries, discriminator.stages, strict=True)]
        case StyleDiscriminator():
            first, *others = discriminator.downwards
            return [[discriminator.from_pixels, first], *([block] for block in others)]
        case _:
            return []


def freeze_lowest(discriminator: nn.Module, num: int) -> None:
    """Let the first `num` stages from the pixels keep their weights; raises UserError where there are not so many.

    Batch norms in them still use the statistics of their batch, and spectral norms go on with their power iteration.
    """
    stages = stages_of(discriminator)
    if num > len(stages):
        subject = Setting("networks.frozen", num)
        none = Setting("networks.frozen", 0)
        if not stages:
            raise UserError(subject, "this discriminator has no stages that could keep their weights", none)
        problem = f"this discriminator has {len(stages)} stages"
        raise UserError(subject, problem, Setting("networks.frozen", len(stages)), none)
    for stage in stages[:num]:
        for module in stage:
            freeze(module)


def frozen_names(discriminator: nn.Module, num: int) -> set[str]:
    """Return the names of all tensors in the first `num` stages of a discriminator from the pixels on."""
    frozen = {module for stage in stages_of(discriminator)[:num] for module in stage}
    starts = tuple(f"{name}." for name, module in discriminator.named_modules() if module in frozen)
    return {name for name in discriminator.state_dict() if name.startswith(starts)}
