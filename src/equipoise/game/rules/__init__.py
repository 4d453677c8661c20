"""The rules of a round, a file each, which `game.update` names; this folder is the list of them.

A rule has `play`, from an update, the terms and more steps of the discriminator to each step's numbers; `num_batches`,
the batches of real samples in a round; and NEEDS_GRAPH, whether it differentiates the players' gradients.
"""
