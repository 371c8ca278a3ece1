"""The commands; the only floor that knows Hydra."""
