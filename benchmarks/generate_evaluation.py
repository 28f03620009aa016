"""Generation for an evaluation: CPU seconds and tokens, by dataset.

  taskset -c 0 python benchmarks/generate_evaluation.py --checkpoint MODEL --data FOLDER
  python benchmarks/generate_evaluation.py --checkpoint MODEL --data FOLDER --count

Prompts are those of three templates for each example, as `flan eval` has them: many
share the text that they ask about. *First* compiles the programs, *again* finds them.
With --count, the tokens of the prompts alone: all, each beginning once, with padding.
MODEL is a model folder; FOLDER holds TFDS records as JSON Lines, as `flan fetch --from`
takes them.
"""

import argparse
import json
import pathlib
import time

import figures
import jax
import numpy as np

from flan_jax.catalog import registry
from flan_jax.checkpoints import decoding_weights, model_dir, weights
from flan_jax.data import prompts, tokenizers
from flan_jax.inference import generate
from flan_jax.inference.prefill import WaitingPrompts
from flan_jax.inference.sampling import context

DATASETS = {
  'squad_v1': 'squad/v1.1/validation',
  'drop': 'drop/default/dev',
  'samsum': 'samsum/default/validation',
  'wmt14_enfr': 'wmt14_translate/fr-en/validation',
  'common_gen': 'gem/common_gen/validation',
  'e2e_nlg': 'gem/e2e_nlg/validation',
  'natural_questions': 'natural_questions_open/default/validation',
  'xsum': 'xsum/default/validation',
}


def read(
  data: pathlib.Path, name: str, *, examples: int, templates: int, tokenizer
) -> list[np.ndarray]:
  """Prompts of a dataset's first examples, cut to 512 tokens, template by template."""
  dataset = registry.get(name)
  lines = (data / f'{DATASETS[name]}.jsonl').read_text(encoding='utf-8').splitlines()
  pairs = [
    (dataset.read(json.loads(line), str(i)), template)
    for template in dataset.evaluated_templates[:templates]
    for i, line in enumerate(lines[:examples])
  ]
  fitted = prompts.fit(
    dataset, pairs, tokenizer=tokenizer, max_tokens=[511] * len(pairs)
  )
  return [prompt.ids for prompt in fitted if prompt is not None]


def count(prompts: list[np.ndarray], *, config, tokenizer) -> tuple[int, int, int]:
  """Tokens of prompts as they are, each beginning once, and with padding."""
  sequences = [context(prompt, tokenizer) for prompt in prompts]
  waiting = WaitingPrompts(sequences, config=config, batch_size=2, shards=1)
  while waiting.left:
    waiting.take()
  return sum(map(len, sequences)), waiting.unpadded, waiting.computed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--checkpoint', required=True, help='a model folder')
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--datasets', nargs='+', default=[*DATASETS], choices=DATASETS)
  parser.add_argument('--examples', type=int, default=8)
  parser.add_argument('--templates', type=int, default=3)
  parser.add_argument('--max-tokens', type=int, default=16)
  parser.add_argument('--batch-size', type=int, default=8)
  parser.add_argument('--count', action='store_true', help='count tokens, run nothing')
  figures.add_flag(parser)
  options = parser.parse_args()
  config = model_dir.config(options.checkpoint)
  tokenizer = tokenizers.load(model_dir.tokenizer_file(options.checkpoint))
  prompts_of = {
    name: read(
      options.data, name, examples=options.examples, templates=options.templates,
      tokenizer=tokenizer,
    )
    for name in options.datasets
  }  # fmt: skip
  if options.count:
    print('dataset              tokens    once  padded')
    for name, given in prompts_of.items():
      counts = count(given, config=config, tokenizer=tokenizer)
      print(f'{name:<18}', *(f'{number:>7}' for number in counts), flush=True)
    return
  params = jax.device_put(weights.load(options.checkpoint, config))
  layout = decoding_weights.prepared(params, config, dtype=None, sharded=False)
  jax.block_until_ready(layout[0])
  print('dataset            prompts  tokens  prefilled  decoded  first, CPU s  again')
  for name, given in prompts_of.items():
    seconds = []
    for _ in range(2):
      began = time.process_time()
      found = generate.generate(
        params, given, config=config, tokenizer=tokenizer,
        max_tokens=options.max_tokens, batch_size=options.batch_size,
      )  # fmt: skip
      seconds.append(time.process_time() - began)
    print(
      f'{name:<18} {len(given):>7}  {sum(map(len, given)):>6}  '
      f'{found.prefill_tokens:>9}  {found.generated_tokens:>7}  '
      f'{seconds[0]:>12.1f}  {seconds[1]:>5.1f}',
      flush=True,
    )
    figures.add(f'generation for an evaluation of {name}', seconds[1], 'CPU s')
  figures.write(options.json)


if __name__ == '__main__':
  main()
