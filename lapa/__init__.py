"""LAPA: latent action pretraining from videos, as one product."""
