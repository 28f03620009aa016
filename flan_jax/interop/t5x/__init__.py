"""The same Decoder, mixtures and optimizer under Google's t5x.

`network` is the module that `t5x.models.DecoderOnlyModel` calls, `mixtures` registers
seqio tasks, `recipe` has the functions that gin files name, `checkpoints` converts
checkpoints both ways, and `initializer` starts a t5x run from a flan_jax model. Only
`initializer` imports t5x, and only `mixtures` imports seqio.
"""
