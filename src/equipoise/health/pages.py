"""What each condition of a game means: how it looks, what it follows from, its causes, and what helps.

`equipoise explain` prints these pages and docs/doctor.md holds them; thresholds are those of `health/conditions.py`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from equipoise.health import conditions as by
from equipoise.health.remedies import GAMMA
from equipoise.health.telling import title
from equipoise.storage.records import Condition

Subject = Condition | Literal["healthy"]
SUBJECTS: tuple[Subject, ...] = ("healthy", *get_args(Condition))
SCORE = "score"  # the names of the curves that a page shows


@dataclass(frozen=True)
class Help:
    """One thing that helps, in a sentence, and the settings to type for it, if there are any."""

    what: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page on one condition."""

    meaning: str  # in one sentence, for a beginner
    looks: str
    numbers: str  # from which it is told
    causes: str
    helps: tuple[Help, ...]
    source: str
    curves: tuple[str, ...]  # of a log line, or SCORE; which show it best


LOWER = Help(
    "lower both learning rates by the same factor, for example from 0.001",
    ("game.generator.rate=0.0003", "game.discriminator.rate=0.0003"),
)
PENALTY = Help("penalise the discriminator's gradient", ("game.penalty.kind=r1+r2", f"game.penalty.gamma={GAMMA:g}"))
EQUAL = Help("give the discriminator the generator's learning rate, where its own is lower")
PACKS = Help("let the discriminator judge two samples at once", ("game.packing=2",))
PAIRS = Help("compare real and generated samples in pairs", ("game.loss=relativistic",))
NOISE = Help("add noise to what the discriminator sees; it falls to 0", ("game.instance_noise=0.1",))
ONE_STEP = Help("give the discriminator one step per generator step", ("game.discriminator_steps=1",))
MORE_DATA = Help("collect more training data; nothing else helps as much")


def heading(subject: Subject) -> str:
    """Return a subject as a heading."""
    return "A healthy game" if subject == "healthy" else title(subject)


PAGES: dict[Subject, Page] = {
    "healthy": Page(
        "Both players learn, and the score falls or has come to rest.",
        "The accuracy of the discriminator keeps away from 50 % and from 100 %, or the score falls although it "
        "does not. Losses go up and down: they prove little.",
        f"None of the other conditions was found in the last {by.WINDOW} log lines.",
        "A loss, a penalty and learning rates that fit each other.",
        (Help("leave it alone, and let the stopping rule decide when it is enough"),),
        "arXiv:1801.04406; arXiv:2501.05441",
        ("accuracy", "spread", SCORE),
    ),
    "non-finite": Page(
        "A loss or a gradient was infinite or not a number, so that step was not taken.",
        "Some steps are skipped. If all are, the losses disappear from the curves.",
        "One skipped step in the last log lines is enough. Equipoise never applies such a step.",
        "A division by zero or a logarithm of zero in a custom loss; numbers in the data that are not finite; "
        "half precision; far too high learning rates.",
        (
            LOWER,
            Help("use single precision", ("precision=float32",)),
            Help("check the data: equipoise data check SOURCE"),
        ),
        "docs/design.md, idea 4",
        ("discriminator_gradient", "accuracy"),
    ),
    "divergence": Page(
        "The generated samples got much worse than they once were, and stay so.",
        "The score rises and does not come back.",
        f"Each of the last {by.NUM_LATE} scores is at least {by.DIVERGED:g} times the best one, by more than three "
        f"standard errors, and at least {100 * by.LOST:.0f} % of what was won is lost.",
        "Too high learning rates, no penalty, or a discriminator that no longer follows.",
        (Help("go back to the best generator; Equipoise keeps it"), LOWER, PENALTY),
        "arXiv:1801.04406, §3; arXiv:1809.11096, §4",
        ("accuracy", SCORE),
    ),
    "exploding-gradient": Page(
        "The changes that the losses ask for are so large that steps go anywhere.",
        "The gradient norms rise by factors of ten. The score is noise.",
        f"A norm above {by.EXPLODED:.0f}, or {by.GROWN:.0f} times what it was before.",
        "A Wasserstein loss without a limit on the discriminator; very deep networks without normalisation; too "
        "high learning rates.",
        (
            PENALTY,
            Help("cut long gradients", ("game.discriminator.clip_norm=1", "game.generator.clip_norm=1")),
            LOWER,
        ),
        "arXiv:1211.5063; arXiv:1704.00028",
        ("discriminator_gradient", "generator_gradient", SCORE),
    ),
    "vanishing-gradient": Page(
        "The generator hears almost nothing from the discriminator, so it hardly learns.",
        "The generator's gradient falls to a small share of what it was, or the first layers of a deep network "
        "get nothing.",
        f"The gradient is below {100 * by.STOPPED:.0f} % of its own past while the score does not fall, or some part "
        f"of a network gets less than {100 * by.FADED:.1g} % of what its last part gets.",
        "The minimax loss against a strong discriminator; deep networks with sigmoid units.",
        (
            Help("use a loss whose gradient does not vanish", ("game.loss=non-saturating",)),
            PENALTY,
            NOISE,
        ),
        "arXiv:1701.04862, Theorem 2.4; arXiv:1406.2661, §3",
        ("generator_gradient", "accuracy", SCORE),
    ),
    "discriminator-overpowering": Page(
        "The discriminator is very often right and very sure of it, and the generator no longer improves.",
        "The accuracy is high and stays so, the answers for real and generated samples lie far apart, and the score "
        "stands still.",
        f"No score of the last {by.NUM_LATE} is the best so far, and the accuracy is at least {100 * by.AHEAD:.0f} % "
        f"with answers at least {by.APART:g} apart, or at least {100 * by.SURE:.0f} % with a generator gradient below "
        "10 % of its past. High accuracy alone is no illness.",
        "Several discriminator steps per generator step, a higher rate for it, or no penalty.",
        (PENALTY, ONE_STEP, PAIRS, NOISE),
        "arXiv:1701.04862; arXiv:1809.11096, §4.2",
        ("accuracy", "real_logit", "fake_logit", SCORE),
    ),
    "discriminator-too-weak": Page(
        "The discriminator is wrong more often than a coin, so the generator follows bad advice.",
        "The accuracy falls below 50 % or jumps between very low and very high.",
        f"A mean accuracy below {100 * by.BEHIND:.0f} %, or two log lines below {100 * by.WILD:.0f} %.",
        "A discriminator with a far lower learning rate or fewer steps than the generator, or too small a one.",
        (
            Help(
                "raise the discriminator's learning rate, for example from 0.0003", ("game.discriminator.rate=0.001",)
            ),
            Help("give it more steps", ("game.discriminator_steps=2",)),
            Help("lower the generator's learning rate, for example from 0.001", ("game.generator.rate=0.0003",)),
        ),
        "arXiv:1706.08500",
        ("accuracy", SCORE),
    ),
    "discriminator-overfitting": Page(
        "The discriminator knows the training samples by heart, and no longer says what makes a sample real.",
        "It answers differently for training and validation samples. The score improves, then gets worse.",
        "(D(train) − D(validation)) / (D(train) − D(generated)) is above "
        f"{by.MEMORISED:g} in the last two evaluations.",
        "Few training samples.",
        (
            Help(
                "augment what the discriminator sees",
                ("augment.kinds=translation,cutout", "augment.probability=0.5"),
            ),
            MORE_DATA,
            Help("use dropout in the discriminator", ("networks.dropout=0.3",)),
        ),
        "arXiv:2006.06676, Eq. 1",
        ("discriminator_gap", SCORE),
    ),
    "mode-collapse": Page(
        "The generator makes the same few samples again and again.",
        "A batch of generated samples is much more alike than a batch of real ones.",
        f"A generated batch has less than {100 * by.COLLAPSED:.0f} % of the spread of a real one, or less than "
        f"{100 * by.ALIKE:.0f} % of its distances between nearest neighbours, and this does not rise; or coverage "
        f"fell below {100 * by.COLLAPSED:.0f} % of its best.",
        "Too high learning rates, no penalty, a loss that rewards one good sample for all latents.",
        (EQUAL, PACKS, PENALTY, LOWER),
        "arXiv:1706.08500; arXiv:1712.04086; arXiv:2501.05441",
        ("spread", "nearest", SCORE),
    ),
    "mode-dropping": Page(
        "Some kinds of real samples are never generated.",
        "Coverage or recall falls, although single samples may look good.",
        f"A spread below {100 * by.DROPPED:.0f} % of a real batch's that does not rise, coverage or recall below "
        f"{100 * by.LEFT:.0f} % of its best, or, where modes are known, shares far from the real ones.",
        "The same as of mode collapse, in a milder form; very uneven classes.",
        (EQUAL, PACKS, PENALTY, PAIRS, Help("train longer while the score gets better, as kinds may come later")),
        "arXiv:1712.04086; arXiv:2002.09797",
        ("spread", "coverage", SCORE),
    ),
    "cycling": Page(
        "The players go round each other: each step of one undoes what the other has learned.",
        "The accuracy swings up and down again and again; the score swings with it.",
        f"The accuracy turned at least {by.NUM_TURNS} times in the last 32 log lines, by {100 * by.SWING:.0f} "
        "points or more each time.",
        "Momentum, simultaneous steps without a penalty, high learning rates.",
        (
            Help("take the momentum away", ("game.generator.beta1=0", "game.discriminator.beta1=0")),
            PENALTY,
            Help("look one step ahead", ("game.update=extragradient",)),
            Help("average the generator's weights", ("game.ema_half_life=10000",)),
        ),
        "arXiv:1705.10461, §3; arXiv:1806.04498",
        ("accuracy", SCORE),
    ),
    "saturation": Page(
        "Most generated values sit at the ends of their range, where the last layer passes on no gradient.",
        "Pictures of pure black and white, or flat colours.",
        f"The share of values at the ends is {100 * by.ENDS:.0f} points higher than in real samples.",
        "Too high a learning rate of the generator, or data that do not use the range of the last layer.",
        (Help("lower the generator's learning rate, for example from 0.001", ("game.generator.rate=0.0003",)), PENALTY),
        "arXiv:1511.06434, §3",
        ("saturated/generated", "saturated/real", SCORE),
    ),
    "memorization": Page(
        "The generator copies training samples in place of making new ones.",
        "Generated samples have a training sample that is almost the same.",
        f"The test for copying, C_T, is below {by.COPIED:g} in the last two evaluations, with a recall of "
        f"{by.RESEMBLES:g} or more in one of them: a blur lies near to every training sample.",
        "Few training samples and long training; duplicates in the data.",
        (MORE_DATA, Help("stop earlier; an earlier generator may copy less", ("stopping.policy=evidence",))),
        "arXiv:2004.05675",
        ("copying", SCORE),
    ),
    "augmentation-leak": Page(
        "The generator makes augmented samples, such as mirrored digits, as the discriminator never sees others.",
        "Generated samples show what only augmentation does.",
        f"They are nearer to augmented real samples than to real ones, by {-by.LEAKED:g} standard errors, twice.",
        "An augmentation with a probability near 1.",
        (
            Help("lower the probability of augmentation", ("augment.probability=0.5",)),
            Help("leave out the kind that leaks", ("augment.kinds=translation",)),
        ),
        "arXiv:2006.06676, §2.2",
        ("augmentation_leak", SCORE),
    ),
    "rate-too-high": Page(
        "Each step changes the weights so much that what was learned is overwritten.",
        "Steps are large beside the weights; the score is noise or does not move.",
        f"One step in four changes a player's weights by more than {100 * by.LARGE:.0f} %.",
        "A learning rate that is too high for this optimizer; Adam needs far lower ones than plain gradient descent.",
        (LOWER,),
        "arXiv:1206.5533",
        ("step/generator", "step/discriminator", SCORE),
    ),
    "rate-too-low": Page(
        "The weights hardly move, so nothing is learned in any reasonable time.",
        "All curves are flat from the beginning.",
        f"From the beginning, three of four steps change both players' weights by less than {100 * by.SMALL:.1g} %.",
        "A learning rate that is too low by factors of ten or more.",
        (
            Help(
                "raise both learning rates, for example from 0.00001",
                ("game.generator.rate=0.001", "game.discriminator.rate=0.001"),
            ),
        ),
        "arXiv:1206.5533",
        ("step/generator", "step/discriminator", SCORE),
    ),
    "averaged-generator-worse": Page(
        "The average of the generator's weights, which is what is kept, is worse than the weights of now.",
        "The score is worse than the live samples look.",
        f"The averaged generator scores {by.LAGGING:g} times as high as the raw one, surely so, in two evaluations "
        "while the score does not fall. The raw one is measured at every fourth evaluation.",
        "An average over too long a time, or batch normalisation whose statistics do not fit the average.",
        (
            Help("average over a shorter time, for example in place of 10,000", ("game.ema_half_life=2000",)),
            Help("do not average", ("game.ema_half_life=0",)),
        ),
        "arXiv:1806.04498",
        ("raw", SCORE),
    ),
    "nothing-more-to-gain": Page(
        "More training is not expected to bring a better generator.",
        "The score has been level for long.",
        "The evidence of the stopping rule: docs/stopping.md.",
        "The game has found what this recipe can find with these data.",
        (
            Help("take the best generator"),
            Help("for a better one, change the data, the recipe or the networks"),
        ),
        "docs/stopping.md",
        (SCORE,),
    ),
}
