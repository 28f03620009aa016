"""Ranking and generation on the local accelerator: prompts and tokens per second.

  flan materialize --mixture microworld --out STORE
  python benchmarks/accelerator_inference.py --gin_file gin/models/2b.gin --store STORE

The model of a gin file, drawn at random. Text of the store is cut into prompts with the
lengths of FLAN's (log-normal, about 190 tokens) and four options each. Both run twice;
the second time nothing compiles, and that is the figure.
"""

import argparse
import time
from collections.abc import Sequence

import figures
import numpy as np

OPTIONS = 4


def corpus(path: str, size: int):
  """The tokenizer of a store, and tokens of its examples, repeated to a length."""
  from flan_jax.data.store.store import Store

  store = Store.open(path)
  pieces = []
  for name in store.datasets:
    entries = range(min(store.num_examples(name), 200))
    pieces += [example.tokens.inputs for example in store.examples(name, entries)]
  tokens = np.concatenate(pieces).astype(np.int32)
  return store.tokenizer(), np.resize(tokens, size)


def requests(tokens: np.ndarray, count: int, longest: int):
  """Prompts cut from the text, each with its options."""
  from flan_jax.inference.rank_options import Request

  rng = np.random.default_rng(0)

  def cut(length: int) -> np.ndarray:
    start = int(rng.integers(len(tokens) - length))
    return tokens[start : start + length]

  def prompt() -> np.ndarray:
    return cut(int(np.clip(rng.lognormal(5.0, 0.8), 8, longest)))

  return [
    Request(prompt(), tuple(cut(int(rng.integers(1, 7))) for _ in range(OPTIONS)))
    for _ in range(count)
  ]


def model(files: Sequence[str], settings: Sequence[str]):
  """The config of a gin model, and parameters drawn at random in its compute type."""
  import jax

  from flan_jax.config import gin
  from flan_jax.model import params as params_lib

  given = ('MODEL_DIR=none', 'MIXTURE_OR_TASK_NAME=flan_all', 'TRAIN_STEPS=1')
  run = gin.load(['gin/runs/base.gin', *files], [*given, *settings]).build('Run')
  drawn = params_lib.init_params(run.model, seed=0)
  dtype = run.model.dtype
  cast = jax.jit(lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree))
  return run.model, cast(drawn)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--gin_file', nargs='+', required=True)
  parser.add_argument('--set', nargs='*', default=[], help='NAME=VALUE of gin')
  parser.add_argument('--store', required=True)
  parser.add_argument('--prompts', type=int, default=1_000)
  parser.add_argument('--generate', type=int, default=128, help='prompts to answer')
  parser.add_argument('--max-tokens', type=int, default=128)
  parser.add_argument('--batch-size', type=int, default=32)
  parser.add_argument('--sequence-length', type=int, default=1_280)
  figures.add_flag(parser)
  options = parser.parse_args()

  import jax

  from flan_jax.inference.rank_options import Scorer

  config, params = model(options.gin_file, options.set)
  tokenizer, tokens = corpus(options.store, 1 << 20)
  scorer = Scorer(
    params=params, config=config, tokenizer=tokenizer, batch_size=options.batch_size,
    sequence_length=options.sequence_length,
  )  # fmt: skip
  longest = options.sequence_length * 4 // 5
  asked = requests(tokens, max(options.prompts, options.generate), longest)
  name = options.gin_file[-1].rpartition('/')[2].removesuffix('.gin')
  print(f'{name} on {jax.devices()[0].device_kind}', flush=True)
  for number in (1, 2):
    start = time.perf_counter()
    scored = scorer.loglikelihood(asked[: options.prompts])
    seconds = time.perf_counter() - start
    print(
      f'ranking, pass {number}: {options.prompts} prompts of {OPTIONS} options in '
      f'{seconds:.1f} s: {options.prompts / seconds:,.1f} prompts/s, '
      f'{scored.unpadded_tokens / seconds:,.0f} tokens/s '
      f'({scored.tokens_scored / seconds:,.0f} with padding)',
      flush=True,
    )
  figures.add(f'ranking, {name}', options.prompts / seconds, 'prompts/s')
  figures.add(f'ranking, {name}', scored.unpadded_tokens / seconds, 'tokens/s')
  prompts = [request.prompt for request in asked[: options.generate]]
  for number in (1, 2):
    start = time.perf_counter()
    found = scorer.generate(prompts, max_tokens=options.max_tokens)
    seconds = time.perf_counter() - start
    written = sum(map(len, found.tokens))
    print(
      f'generation, pass {number}: {written:,} tokens from {len(prompts)} prompts in '
      f'{seconds:.1f} s: {written / seconds:,.0f} tokens/s',
      flush=True,
    )
  figures.add(f'generation, {name}', written / seconds, 'tokens/s')
  figures.write(options.json)


if __name__ == '__main__':
  main()
