"""Seconds from a loaded model to the first token of an answer, and between tokens.

  python benchmarks/first_token.py microworld
  JAX_ENABLE_COMPILATION_CACHE=0 python benchmarks/first_token.py microworld

The first prompt compiles two programs, or reads them from JAX's cache of compiled
programs; the second prompt has another length and compiles nothing.
"""

import argparse
import os
import time

import figures

from flan_jax.runtime import compilation_cache

PROMPTS = ('Who is hungry?', 'Who is in the garden with the old dog?')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('model')
  parser.add_argument('--max-tokens', type=int, default=64)
  figures.add_flag(parser)
  options = parser.parse_args()
  os.environ.update(compilation_cache.environment(os.environ))
  import flan_jax

  model = flan_jax.load_model(options.model)
  for number, prompt in enumerate(PROMPTS, start=1):
    began, cpu = time.perf_counter(), time.process_time()
    pieces = model.stream(prompt, max_tokens=options.max_tokens)
    times = [time.perf_counter() - began for _ in pieces]
    cpu = time.process_time() - cpu
    if not times:
      print(f'{prompt!r}: EOS at once')
      continue
    rest = (times[-1] - times[1]) / max(len(times) - 2, 1) if len(times) > 1 else 0
    print(
      f'first token {times[0]:.2f} s, {len(times)} tokens {times[-1]:.2f} s '
      f'(CPU {cpu:.2f} s), from the second on {rest * 1e3:.1f} ms each'
    )
    figures.add(f'answer {number}', cpu, 'CPU s', lower_is_better=True)
  figures.write(options.json)


if __name__ == '__main__':
  main()
