"""Evaluation: tree scoring and generation against lm-eval and transformers.

  flan convert HF_FOLDER MODEL
  python benchmarks/evaluate.py --data FOLDER --checkpoint MODEL --against HF_FOLDER

Both score the same examples, prompts and token ids with the same weights, in float32 on
the CPU: options without EOS, no separator, one space before an option. lm-eval runs its
Hugging Face backend. Printed for each dataset: examples per second of wall time and of
processor time (all cores, this process only), tokens computed, padding included, the
largest difference of a log-probability, and how often the same option wins. Every
dataset has two disjoint samples of rows, each with its own ratios, since a speed that
holds for some rows may not hold for others. Without --against, flan_jax alone.

FOLDER holds TFDS records as JSON Lines, as `flan fetch --from` takes them.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import figures
import jax
import numpy as np

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.checkpoints import model_dir
from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.model import params as params_lib

DATASETS = {
  'bool_q': 'bool_q/default/validation',
  'arc_easy': 'ai2_arc/ARC-Easy/test',
  'arc_challenge': 'ai2_arc/ARC-Challenge/test',
  'piqa': 'piqa/default/validation',
  'hellaswag': 'hellaswag/default/validation',
  'cosmos_qa': 'cosmos_qa/default/validation',
  'record': 'super_glue/record/validation',
}
TIE = 1e-4
"""Logits closer than this are a tie: rounding may decide it."""


class Cost(NamedTuple):
  """Cost of a call: wall and processor seconds."""

  wall: float
  cpu: float


def timed(work: Callable):
  """Returns the result of `work` and its cost."""
  wall, cpu = time.perf_counter(), time.process_time()
  out = work()
  return out, Cost(time.perf_counter() - wall, time.process_time() - cpu)


def read_samples(
  data: pathlib.Path, name: str, count: int, *, samples: int
) -> list[list[Example]]:
  """Draws disjoint samples of a dataset's rows, of `count` each or what there is."""
  dataset = registry.get(name)
  lines = (data / f'{DATASETS[name]}.jsonl').read_text(encoding='utf-8').splitlines()
  order = random.Random(0).sample(range(len(lines)), len(lines))
  count = min(count, len(lines) // samples)
  return [
    [
      dataset.read(json.loads(lines[i]), str(i))
      for i in order[part * count : (part + 1) * count]
    ]
    for part in range(samples)
  ]


def read_examples(data: pathlib.Path, name: str, count: int) -> list[Example]:
  """Draws one sample."""
  return read_samples(data, name, count, samples=1)[0]


def requests(
  name: str, examples: Sequence[Example], *, prompt_style: str, tokenizer: Tokenizer
) -> list[Request]:
  """Renders prompts by the first template, and options after a space."""
  dataset = PromptStyle(prompt_style=prompt_style).apply(registry.get(name))
  template = dataset.evaluated_templates[0]
  out = []
  for example in examples:
    prompt = prompt_lib.render(dataset, template, example).inputs
    texts = [prompt, *(f' {option}' for option in example.answer.options)]
    ids, *options = tokenizer.encode_batch(texts)
    out.append(Request(ids, tuple(options), f'{name} {example.example_id}'))
  return out


class LmEval:
  """lm-eval's Hugging Face backend, and its model."""

  def __init__(self, folder: str, *, batch_size: int):
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    self.torch = torch
    self.model = transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype=torch.float32
    ).eval()
    self.backend = HFLM(
      pretrained=self.model,
      tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
      device='cpu',
      batch_size=batch_size,
      max_length=1 << 20,
    )
    self.computed = 0
    forward = self.backend._model_call

    def counted(inputs, *args, **kwargs):
      self.computed += inputs.numel()
      return forward(inputs, *args, **kwargs)

    self.backend._model_call = counted

  def loglikelihood(self, requests: Sequence[Request]) -> list[np.ndarray]:
    """Scores every option of every request."""
    pairs = [
      (('', ''), request.prompt.tolist(), option.tolist())
      for request in requests
      for option in request.options
    ]
    scores = self.backend._loglikelihood_tokens(pairs, disable_tqdm=True)
    counts = np.cumsum([len(request.options) for request in requests])
    return np.split(np.array([score for score, _ in scores]), counts)[:-1]

  def generate(
    self,
    prompts: Sequence[np.ndarray],
    *,
    max_tokens: int,
    batch_size: int,
    eos_id: int,
  ) -> list[list[int]]:
    """Generates greedily with transformers' `generate`, in batches by length."""
    torch = self.torch
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    out: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
      some = order[start : start + batch_size]
      width = len(prompts[some[0]])
      ids = torch.full((len(some), width), eos_id)
      mask = torch.zeros((len(some), width), dtype=torch.long)
      for b, i in enumerate(some):
        ids[b, width - len(prompts[i]) :] = torch.as_tensor(prompts[i])
        mask[b, width - len(prompts[i]) :] = 1
      with torch.no_grad():
        generated = self.model.generate(
          ids,
          attention_mask=mask,
          max_new_tokens=max_tokens,
          do_sample=False,
          eos_token_id=eos_id,
          pad_token_id=eos_id,
        )
      for b, i in enumerate(some):
        answer = generated[b, width:].tolist()
        out[i] = answer[: answer.index(eos_id)] if eos_id in answer else answer
    return out

  def gap(self, prompt: np.ndarray, answer: Sequence[int], other: int) -> float:
    """Difference between the best logit after `answer` and that of `other`."""
    ids = self.torch.as_tensor([[*prompt.tolist(), *answer]])
    with self.torch.no_grad():
      logits = self.model(ids).logits[0, -1]
    return float(logits.max() - logits[other])


def scoring(scorer: Scorer, lm_eval: LmEval | None, args: argparse.Namespace) -> None:
  """Prints a line for each dataset and sample of rows, and the ratios side by side."""
  ratios = {}
  for part in range(args.samples):
    print(f'sample {part + 1} of {args.samples}')
    for row, ratio in sample_scoring(scorer, lm_eval, args, part).items():
      ratios.setdefault(row, []).append(ratio)
  print('\nfaster, in wall seconds and in processor seconds, by sample of rows')
  for row, found in ratios.items():
    each = '   '.join(f'{wall:>5.1f}x {cpu:>5.1f}x' for wall, cpu in found)
    print(f'{row:>14}   {each}')


def sample_scoring(
  scorer: Scorer, lm_eval: LmEval | None, args: argparse.Namespace, part: int
) -> dict[str, tuple[float, float]]:
  """Prints a line a dataset, the sum, and the sum at equal numbers of examples.

  Returns:
    Row -> how much faster, in wall seconds and in processor seconds.
  """
  print(
    f'{"dataset":>14} {"n":>5} {"options":>7} {"flan/s":>8} {"again":>8} {"cpu":>8} '
    f'{"other/s":>8} {"cpu":>8} {"faster":>7} {"cpu":>6} {"flan":>9} {"other":>9} '
    f'{"share":>6} {"differ":>8} {"agree":>6}',
    flush=True,
  )
  total, alike, ratios = np.zeros(8), np.zeros(8), {}
  for name in args.datasets:
    examples = read_samples(args.data, name, args.examples, samples=args.samples)[part]
    found = requests(
      name, examples, prompt_style=args.prompt_style, tokenizer=scorer.tokenizer
    )
    fresh = dataclasses.replace(scorer)  # each dataset as if it were the first
    rank = functools.partial(fresh.loglikelihood, found)
    (_, first_cost), (scored, cost) = timed(rank), timed(rank)
    numbers = [len(found), first_cost.wall, cost.wall, cost.cpu, scored.tokens_scored]
    other, differ, agree = Cost(np.nan, np.nan), np.nan, np.nan
    if lm_eval is not None:
      lm_eval.loglikelihood(found[:1])  # warms up
      lm_eval.computed = 0
      scores, other = timed(lambda found=found: lm_eval.loglikelihood(found))
      pairs = list(zip(scored.log_probabilities, scores, strict=True))
      differ = max(float(abs(one - two).max()) for one, two in pairs)
      agree = float(np.mean([one.argmax() == two.argmax() for one, two in pairs]))
    numbers += [
      other.wall,
      other.cpu,
      lm_eval.computed if lm_eval else scored.tokens_naive,
    ]
    total += numbers
    alike += np.array(numbers) * args.examples / len(found)
    options = np.mean([len(request.options) for request in found])
    print(_line(name, options, numbers, differ, agree), flush=True)
    ratios[name] = _faster(numbers)
    beside = {'peer': 'lm-eval', 'peer_value': len(found) / other.cpu}
    figures.add(
      f'options of {name}, sample {part + 1}', len(found) / cost.cpu, 'examples/CPU s',
      **(beside if lm_eval else {}),
    )  # fmt: skip
  for row, numbers in (('sum', total), ('equal n', alike)):
    print(_line(row, np.nan, numbers, np.nan, np.nan))
    ratios[row] = _faster(numbers)
  return ratios


def _faster(numbers) -> tuple[float, float]:
  _, _, wall, cpu, _, other_wall, other_cpu, _ = numbers
  return other_wall / wall, other_cpu / cpu


def _line(name, options, numbers, differ, agree) -> str:
  count, first, wall, cpu, tokens, other_wall, other_cpu, other_tokens = numbers
  return (
    f'{name:>14} {count:>5.0f} {options:>7.1f} {count / first:>8.2f} '
    f'{count / wall:>8.2f} {count / cpu:>8.2f} {count / other_wall:>8.2f} '
    f'{count / other_cpu:>8.2f} {other_wall / wall:>6.1f}x {other_cpu / cpu:>5.1f}x '
    f'{tokens:>9,.0f} {other_tokens:>9,.0f} {tokens / other_tokens:>6.2f} '
    f'{differ:>8.1e} {agree:>6.1%}'
  )


def generation(
  scorer: Scorer, lm_eval: LmEval | None, args: argparse.Namespace
) -> None:
  """Generates greedily from prompts of BoolQ and CosmosQA, of many lengths."""
  prompts = [
    request.prompt
    for name in ('bool_q', 'cosmos_qa')
    for request in requests(
      name,
      read_examples(args.data, name, args.generate // 2),
      prompt_style='no_template',
      tokenizer=scorer.tokenizer,
    )
  ]

  def generate():
    return scorer.generate(prompts, max_tokens=args.max_tokens)

  timed(generate)
  found, cost = timed(generate)
  tokens = sum(min(len(answer) + 1, args.max_tokens) for answer in found.tokens)
  print(
    f'flan_jax: {len(prompts)} prompts, {tokens} tokens, '
    f'{tokens / cost.wall:.1f} tokens/s '
    f'({tokens / cost.cpu:.1f} a processor second); {found.prefill_tokens} '
    f'prefilled, {found.generated_tokens} decoded',
    flush=True,
  )
  if lm_eval is None:
    return
  eos_id = scorer.tokenizer.eos_id
  generated, other = timed(
    lambda: lm_eval.generate(
      prompts, max_tokens=args.max_tokens, batch_size=scorer.batch_size, eos_id=eos_id
    )
  )
  figures.add(
    'generation', tokens / cost.cpu, 'tokens/CPU s', peer='transformers',
    peer_value=tokens / other.cpu,
  )  # fmt: skip
  print(
    f'transformers: {tokens / other.wall:.1f} tokens/s ({tokens / other.cpu:.1f} a '
    f'processor second): {other.wall / cost.wall:.2f}x, {other.cpu / cost.cpu:.2f}x'
  )
  same, ties, gaps = 0, 0, []
  for prompt, one, two in zip(prompts, found.tokens, generated, strict=True):
    one, two = [*one, eos_id], [*two, eos_id]
    part = next((k for k, ids in enumerate(zip(one, two)) if len({*ids}) > 1), None)  # noqa: B905
    if part is None:
      same += 1
    else:
      gaps.append(lm_eval.gap(prompt, two[:part], one[part]))
      ties += gaps[-1] <= TIE
  print(
    f'the same text: {same} of {len(prompts)}; other at a tie (within {TIE}): {ties}; '
    f'largest gap: {max(gaps, default=0):.1e}'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--checkpoint', required=True, help='model folder')
  parser.add_argument('--against', help='same model as a Hugging Face folder')
  parser.add_argument(
    '--examples', type=int, default=16, help='examples of each dataset'
  )
  parser.add_argument(
    '--samples', type=int, default=2, help='disjoint samples of rows to score'
  )
  parser.add_argument('--datasets', nargs='+', default=list(DATASETS))
  parser.add_argument(
    '--prompt-style', default='instructions', choices=('instructions', 'no_template')
  )
  parser.add_argument('--batch-size', type=int, default=8, help='batch size of both')
  parser.add_argument('--sequence-length', type=int, default=512)
  parser.add_argument('--generate', type=int, default=0, help='prompts to answer')
  parser.add_argument('--max-tokens', type=int, default=64)
  figures.add_flag(parser)
  args = parser.parse_args()
  config = model_dir.config(args.checkpoint)
  shapes, _ = params_lib.abstract_params(config)
  params = model_dir.load(args.checkpoint, config=config, shapes=shapes)
  scorer = Scorer(
    params=jax.device_put(params),
    config=config,
    tokenizer=tokenizers.load(model_dir.tokenizer_file(args.checkpoint)),
    batch_size=args.batch_size,
    sequence_length=args.sequence_length,
    eos=False,
    separator=False,
  )
  lm_eval = LmEval(args.against, batch_size=args.batch_size) if args.against else None
  if args.examples:
    scoring(scorer, lm_eval, args)
  if args.generate:
    generation(scorer, lm_eval, args)
  figures.write(args.json)


if __name__ == '__main__':
  main()
