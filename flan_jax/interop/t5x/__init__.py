"""The same Decoder, mixtures and optimizer under Google's t5x.

`network` is the module that `t5x.models.DecoderOnlyModel` drives, `mixtures` the seqio
side, `recipe` what gin files ask for, `checkpoints` the way there and back. Only
`mixtures` imports seqio; none of them imports t5x: t5x imports them.
"""
