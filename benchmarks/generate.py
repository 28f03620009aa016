"""Generation from prompts to tokens, ours and `transformers`' in turn, in CPU seconds.

  taskset -c 0 python benchmarks/generate.py
  taskset -c 0 python benchmarks/generate.py --batches 8 --tokens 64 --rounds 3
  taskset -c 0 python benchmarks/generate.py --checkpoint MODEL --against HF_FOLDER

Both sides read the same prompts of 32 to 96 tokens and write 64 tokens each, greedily,
by SmolLM2-135M's shape in float32: drawn at random and the same for both, or of a model
that was converted. No answer ends early. The last columns are what the machine's memory
allows: every step reads all weights once. `transformers` needs torch (`make torch`).
"""

import argparse
import time
from typing import Any

import decode_step
import figures
import jax
import numpy as np
import torch
import transformers

from flan_jax.checkpoints import decoding_weights, weights
from flan_jax.config.decoding import Decoding
from flan_jax.inference import generate

END = decode_step.CONFIG.vocab_size - 1


class NoTokenizer:
  """A tokenizer of token ids alone, of which no generated one ends an answer."""

  bos_id, eos_id = None, -1

  def decode(self, tokens: list[int]) -> str:
    return ' '.join(map(str, tokens))


def prompts(batch: int) -> list[np.ndarray]:
  generator = np.random.default_rng(0)
  lengths = generator.integers(32, 97, batch)
  return [generator.integers(5, 1000, n, dtype=np.int32) for n in lengths]


def ours(params: Any, batch: int, tokens: int, decoding: Decoding) -> list[list[int]]:
  found = generate.generate(
    params, prompts(batch), config=decode_step.CONFIG, tokenizer=NoTokenizer(),
    max_tokens=tokens, decoding=decoding, separator=False, batch_size=batch,
  )  # fmt: skip
  return found.tokens


@torch.no_grad()
def theirs(model: Any, batch: int, tokens: int) -> list[list[int]]:
  given = prompts(batch)
  longest = max(map(len, given))
  ids, mask = np.zeros((2, batch, longest), np.int64)
  for row, prompt in enumerate(given):  # padded on the left
    ids[row, longest - len(prompt) :] = prompt
    mask[row, longest - len(prompt) :] = 1
  found = model.generate(
    torch.tensor(ids), attention_mask=torch.tensor(mask), max_new_tokens=tokens,
    min_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=None,
  )  # fmt: skip
  return found[:, longest:].tolist()


def _timed(call) -> tuple[float, Any]:
  began = time.process_time()
  found = call()
  return time.process_time() - began, found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--batches', type=int, nargs='+', default=[8, 32])
  parser.add_argument('--tokens', type=int, default=64)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--checkpoint', help='a model folder of SmolLM2-135M')
  parser.add_argument('--against', help='the Hugging Face folder it came from')
  parser.add_argument('--weight-dtypes', nargs='*', default=['bfloat16', 'int8'])
  figures.add_flag(parser)
  options = parser.parse_args()
  torch.set_num_threads(1)
  if options.checkpoint:
    params = jax.device_put(weights.load(options.checkpoint, decode_step.CONFIG))
    model = transformers.AutoModelForCausalLM.from_pretrained(
      options.against, dtype=torch.float32
    ).eval()
  else:
    params = decode_step.params_lib.init_params(decode_step.CONFIG, seed=0)
    model = decode_step.Torch().model
  size = sum(x.nbytes for x in jax.tree.leaves(params))
  read = decode_step.bandwidth() / 1e9
  print(f'memory: {read:.1f} GB/s on one core; weights {size / 1e9:.2f} GB')
  print('batch  weights    CPU s  tokens/s  ratio  of what memory allows  same tokens')
  for batch in options.batches:
    measure(params, model, batch, options, size)
  figures.write(options.json)


def measure(params: Any, model: Any, batch: int, options: Any, size: int) -> None:
  """Prints a line for each dtype of our weights, and one for `transformers`."""
  tokens, names = options.tokens, ('float32', *options.weight_dtypes, 'torch')

  def run(name: str) -> list[list[int]]:
    if name == 'torch':
      return theirs(model, batch, tokens)
    dtype = None if name == 'float32' else name
    return ours(params, batch, tokens, Decoding(weight_dtype=dtype))

  def prepare(name: str) -> None:
    """Lays out our weights, which a model does once."""
    if name != 'torch':
      dtype = None if name == 'float32' else name
      jax.block_until_ready(
        decoding_weights.prepared(
          params, decode_step.CONFIG, dtype=dtype, sharded=False
        )[0]
      )

  least, found = {}, {}
  for turn in range(options.rounds + 1):  # the first compiles
    for name in names:
      prepare(name)
      seconds, found[name] = _timed(lambda name=name: run(name))
      if turn:
        least[name] = min(seconds, least.get(name, np.inf))
  for name, seconds in least.items():
    read = size / {'bfloat16': 2, 'int8': 4}.get(name, 1) * tokens
    allowed = read / decode_step.bandwidth() / seconds
    same = np.mean(np.array(found[name]) == np.array(found['torch']))
    print(
      f'{batch:>5}  {name:<9} {seconds:>6.2f}  {batch * tokens / seconds:>8.0f}  '
      f'{least["torch"] / seconds:>5.2f}  {allowed:>21.0%}'
      + (f'  {same:>11.1%}' if options.checkpoint else ''),
      flush=True,
    )
    if name != 'torch':
      figures.add(
        f'generation of {batch} answers, {name}', seconds, 'CPU s',
        peer='transformers', peer_value=least['torch'], lower_is_better=True,
      )  # fmt: skip


if __name__ == '__main__':
  main()
