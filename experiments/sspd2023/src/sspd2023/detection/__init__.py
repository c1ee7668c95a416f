"""Detection by the latent space: what the speech autoencoder says of attacks, and of sound that it does not know."""
