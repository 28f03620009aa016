"""seqio Tasks, Mixtures and vocabularies."""
