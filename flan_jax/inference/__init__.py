"""Log-likelihoods, generation and sampling from a decoder."""
