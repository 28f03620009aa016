"""The benchmarks of this folder, for `make bench`; each with its peer, in turn."""

import os
import sys

from bench_registry import Job, LeftOut, register

FLAN = (sys.executable, '-m', 'flan_jax')

register(
  'data',
  'packing, rendering and loading beside seqio and Grain',
  lambda job: job.program(
    'data.py',
    small=('--examples', '2000', '--peer-examples', '200', '--repeats', '1'),
    full=('--peer-examples', '3000'),
  ),
  needs=('seqio',),
  limit_s=420,
)
register(
  'train',
  'train step beside t5x and torch',
  lambda job: job.program(
    'train.py',
    small=('--rows', '1', '--length', '64', '--steps', '1', '--rounds', '1'),
    full=('--rows', '8', '--length', '256', '--steps', '1', '--rounds', '5'),
  ),
  limit_s=420,
)
register(
  'first start',
  'first finished step and first answer beside t5x',
  lambda job: job.program(
    'first_start.py',
    '--rounds', '1',
    small=('--rows', '1', '--length', '64', '--no-answers'),
  ),
  limit_s=300,
)  # fmt: skip
register(
  'decode step',
  'a step of generation beside transformers, on one core',
  lambda job: [
    'taskset',
    '-c',
    str(min(os.sched_getaffinity(0))),
    *job.program(
      'decode_step.py',
      small=('--batches', '1', '--rounds', '1'),
      full=('--batches', '1', '8', '32', '--rounds', '4'),
    ),
  ],
  needs=('torch', 'transformers'),
  limit_s=300,
)
register(
  'generation',
  'whole generations beside transformers, on one core',
  lambda job: [
    'taskset',
    '-c',
    str(min(os.sched_getaffinity(0))),
    *job.program(
      'generate.py',
      small=('--batches', '2', '--tokens', '4', '--rounds', '1'),
      full=('--rounds', '2', '--weight-dtypes'),  # float32 alone
    ),
  ],
  needs=('torch', 'transformers'),
  limit_s=480,
)
register(
  'first token',
  'first token of an answer',
  lambda job: job.program('first_token.py', 'microworld', '--max-tokens', '16'),
  limit_s=120,
)
register(
  'export',
  'rendered examples written to files',
  lambda job: job.program(
    'export.py',
    small=('--examples', '300', '--repeats', '1'),
    full=('--examples', '10000', '--repeats', '3'),
  ),
  limit_s=240,
)


@lambda command: register(
  'lm-eval back end',
  "lm-eval's own interface beside its Hugging Face back end",
  command,
  needs=('lm_eval', 'accelerate', 'torch', 'transformers'),
  limit_s=180,
)
def lm_eval_backend(job: Job) -> list[str]:
  """The model that ships, as ours and as a Hugging Face folder."""
  folder = str(job.scratch / 'hf')
  job.run([*FLAN, 'convert', 'microworld', folder, '--to', 'hf'])
  return job.program(
    'lm_eval_backend.py', '--model', 'microworld', '--against', folder,
    small=('--prompts', '2', '--words', '20'),
  )  # fmt: skip


@lambda command: register(
  'ranking',
  'options ranked, and text generated, beside lm-eval and transformers',
  command,
  needs=('lm_eval', 'accelerate', 'torch', 'transformers'),
  limit_s=600,
)
def ranking(job: Job) -> list[str]:
  """A real model on real examples, both from elsewhere."""
  model, data = (os.environ.get(f'FLAN_BENCH_{name}') for name in ('MODEL', 'DATA'))
  if not model or not data:
    raise LeftOut(
      'set FLAN_BENCH_MODEL to a Hugging Face folder or a GGUF file, and '
      'FLAN_BENCH_DATA to TFDS records as JSON Lines'
    )
  ours = str(job.scratch / 'model')
  job.run([*FLAN, 'convert', model, ours])
  if not os.path.isdir(model):
    model = str(job.scratch / 'hf')
    job.run([*FLAN, 'convert', ours, model, '--to', 'hf'])
  return job.program(
    'evaluate.py', '--data', data, '--checkpoint', ours, '--against', model,
    '--batch-size', '8', '--sequence-length', '512', '--prompt-style', 'no_template',
    small=('--examples', '1', '--datasets', 'piqa'),
    full=('--examples', '8', '--generate', '16'),  # of each of two samples
  )  # fmt: skip
