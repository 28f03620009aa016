"""Settings of a training run so small that a test can have one of its own.

Programs are compiled once for all runs with these settings: change as few as the test
needs.
"""

FILES = ('gin/runs/base.gin', 'gin/models/tiny.gin')
SETTINGS = {
  'VOCAB_SIZE': 512,
  'NUM_LAYERS': 1,
  'DecoderConfig.d_model': 16,
  'DecoderConfig.d_ff': 32,
  'DecoderConfig.head_dim': 4,
  'SEQUENCE_LENGTH': 256,
  'BATCH_TOKENS': 2048,
  'Optimizer.learning_rate': 0.01,
  'Evaluate.sequence_length': 256,
}


def flags(values: dict[str, object]) -> list[str]:
  """Gin bindings of the settings, NAME=VALUE, with `values` added or replaced."""
  return [f'{name}={value}' for name, value in {**SETTINGS, **values}.items()]
