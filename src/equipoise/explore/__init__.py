"""What a trained generator has learned: walks through its latents, directions, truncation, projection, arithmetic."""

from equipoise.explore.directions import Directions as Directions
from equipoise.explore.directions import directions_of_activations as directions_of_activations
from equipoise.explore.directions import directions_of_weights as directions_of_weights
from equipoise.explore.exploring import Explored as Explored
from equipoise.explore.exploring import explored as explored
from equipoise.explore.exploring import read_pictures as read_pictures
from equipoise.explore.exploring import space_of as space_of
from equipoise.explore.exploring import write as write
from equipoise.explore.projection import Projection as Projection
from equipoise.explore.projection import projected as projected
from equipoise.explore.space import Space as Space
from equipoise.explore.space import images_of as images_of
from equipoise.explore.space import slerp as slerp
from equipoise.explore.truncation import truncated_normal as truncated_normal
from equipoise.game.judged import with_category as with_category
from equipoise.game.judged import with_number as with_number
