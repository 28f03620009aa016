"""The decoder-only language model.

Letters in shape suffixes: B batch, L length, T query length, S key length, D d_model,
F d_ff, H heads, K kv heads, G query heads per kv head, C head dim, V vocabulary,
N layers, R relative buckets, c head dim / 2.
"""
