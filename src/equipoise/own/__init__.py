"""`equipoise.Watch`: following a training loop that Equipoise did not write."""
