"""lm-eval's back ends: `flan_jax` beside `hf`, multiple choice with long prompts.

  flan convert MODEL HF --to hf
  python benchmarks/lm_eval_backend.py --model MODEL --against HF

Both get the same requests through lm-eval's own interface, in float32 on the CPU. They
take turns, twice; the first pass of ours compiles its programs.
"""

import argparse
import random
import time

import figures
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from flan_jax.interop.lm_eval.model import FlanJax

TEXT = (
  'the man who came from a small town by the river said that he would not go back '
  'before the end of the year because his house had been sold'
)
OPTIONS = ('yes it is true', 'no it is not', 'it does not say', 'that may be so')


def requests(prompts: int, words: int) -> list[Instance]:
  """Prompts of random words, each with all options."""
  draw = random.Random(0)
  known = TEXT.split()
  texts = [' '.join(draw.choices(known, k=words)) for _ in range(prompts)]
  return [
    Instance('loglikelihood', doc={}, arguments=(text, f' {option}'), idx=i)
    for text in texts
    for i, option in enumerate(OPTIONS)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', required=True)
  parser.add_argument('--against', required=True)
  parser.add_argument('--prompts', type=int, default=24)
  parser.add_argument('--words', type=int, default=400)
  parser.add_argument('--batch-size', type=int, default=8)
  figures.add_flag(parser)
  args = parser.parse_args()
  asked = requests(args.prompts, args.words)
  models = {
    'flan_jax': FlanJax(args.model, batch_size=args.batch_size),
    'hf': HFLM(
      args.against, dtype='float32', batch_size=args.batch_size, device='cpu'
    ),
  }  # fmt: skip
  found = {}
  tokens = len(models['flan_jax'].tok_encode(asked[0].args[0]))
  print(f'{args.prompts} prompts of about {tokens} tokens, {len(OPTIONS)} options each')
  seconds = {}
  for number in (1, 2):
    for name, model in models.items():
      began, cpu = time.perf_counter(), time.process_time()
      found[name] = model.loglikelihood(asked, disable_tqdm=True)
      seconds[name] = time.process_time() - cpu
      print(
        f'{name}, pass {number}: {time.perf_counter() - began:.2f} s, '
        f'{seconds[name]:.2f} CPU s'
      )
  figures.add(
    'options in lm-eval', seconds['flan_jax'], 'CPU s', peer='--model hf',
    peer_value=seconds['hf'], lower_is_better=True,
  )  # fmt: skip
  pairs = list(zip(found['flan_jax'], found['hf'], strict=True))
  print(f'largest difference: {max(abs(a[0] - b[0]) for a, b in pairs):.1e}')
  figures.write(args.json)


if __name__ == '__main__':
  main()
