"""The same Decoder, mixtures and optimizer under Google's t5x.

`network` is the module that `t5x.models.DecoderOnlyModel` drives, `mixtures` the seqio
side, `recipe` what gin files ask for, `checkpoints` the way there and back,
`initializer` how a run of t5x starts from ours. Only `initializer` imports t5x, and
only `mixtures` seqio: t5x imports the rest.
"""
