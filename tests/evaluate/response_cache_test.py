"""The journal: an evaluation that was interrupted goes on where it was."""

import json

import numpy as np
import pytest
from oracle import BYTES, RANKED, WRITTEN, Oracle, examples

from flan_jax.evaluate import evaluator, response_cache
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Request


class Counted(Oracle):
  """Counts the calls it answers; scores that need every bit of a float32."""

  calls = 0

  def score(self, requests):
    self.calls += 1
    scored = super().score(requests)
    scores = [values / np.float32(3) for values in scored.log_probabilities]
    return scored._replace(log_probabilities=scores, seconds=1.5)

  def generate(self, prompts, *, max_new_tokens):
    self.calls += 1
    return super().generate(prompts, max_new_tokens=max_new_tokens)


def requests(*texts):
  ids = BYTES.encode_batch(texts)
  options = tuple(BYTES.encode_batch(['yes', 'no']))
  return [Request(prompt, options) for prompt in ids]


@pytest.fixture
def model():
  return Counted(lambda prompt: 'yes')


def test_an_answer_is_computed_once(model, tmp_path):
  path = tmp_path / 'journal.jsonl'
  first = ResponseCache(model, path, of='a')
  scored = first.score(requests('one', 'two'))
  written = first.generate([BYTES.encode_batch(['x'])[0]], max_new_tokens=4)
  first.close()

  second = ResponseCache(model, path, of='a')
  again = second.score(requests('one', 'two'))
  for one, other in zip(scored.log_probabilities, again.log_probabilities, strict=True):
    assert one.dtype == other.dtype == np.float32
    assert one.tobytes() == other.tobytes()
  assert again[1:] == scored[1:]
  assert second.generate([BYTES.encode_batch(['x'])[0]], max_new_tokens=4) == written
  assert (model.calls, second.replayed) == (2, 2)
  second.score(requests('one', 'three'))
  assert (model.calls, second.replayed) == (3, 2)


@pytest.mark.parametrize('kept', [1, 30, 200, -3])
def test_a_torn_file_loses_its_last_call_alone(kept, model, tmp_path):
  """Whatever byte a crash left as the last, what comes of it is right."""
  path = tmp_path / 'journal.jsonl'
  first = ResponseCache(model, path, of='a')
  for text in ('one', 'two', 'three'):
    first.score(requests(text))
  first.close()
  whole = path.read_bytes()
  path.write_bytes(whole[:kept])

  lines = whole[:kept].count(b'\n')
  second = ResponseCache(model, path, of='a')
  for text in ('one', 'two', 'three'):
    second.score(requests(text))
  second.close()
  assert second.replayed == max(lines - 1, 0)
  assert path.read_bytes() == whole


def test_another_model_starts_anew(model, tmp_path):
  path = tmp_path / 'journal.jsonl'
  for of in ('a', 'b', 'a'):
    asked = ResponseCache(model, path, of=of)
    asked.score(requests('one'))
    asked.close()
  assert model.calls == 3


@pytest.mark.parametrize('head', [{'of': 'a'}, {'format': 1, 'of': 'a'}])
def test_a_file_of_an_older_format_starts_anew_and_says_so(head, model, tmp_path):
  """Its answers are never read, though it is of the same model."""
  path, said = tmp_path / 'journal.jsonl', []
  first = ResponseCache(model, path, of='a', say=said.append)
  first.score(requests('one'))
  first.close()
  now, answer = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(json.dumps(head).encode() + b'\n' + answer)

  second = ResponseCache(model, path, of='a', say=said.append)
  second.score(requests('one'))
  second.close()
  assert (model.calls, second.replayed) == (2, 0)
  assert path.read_bytes() == now + answer
  (line,) = said
  assert line.endswith("journal.jsonl': format 1; this version writes 2: started anew")


def test_an_interrupted_evaluation_ends_as_one_never_stopped(model, tmp_path):
  read = {RANKED.name: examples(RANKED, 5), WRITTEN.name: examples(WRITTEN, 5)}

  def measure(scorer):
    return evaluator.evaluate(
      scorer,
      datasets=[RANKED, WRITTEN],
      examples=lambda name, split: read[name](name, split),
    )

  whole = measure(Counted(lambda prompt: 'yes'))
  path = tmp_path / 'journal.jsonl'
  stopped = ResponseCache(model, path, of='a')
  evaluator.evaluate(stopped, datasets=[RANKED], examples=read[RANKED.name])
  stopped.close()
  resumed = ResponseCache(model, path, of='a')
  found = measure(resumed)
  assert (model.calls, resumed.replayed) == (2, 1)
  assert found.timing == whole.timing
  for one, other in zip(whole.datasets, found.datasets, strict=True):
    for split in one.splits:
      np.testing.assert_array_equal(one.splits[split].tuned, other.splits[split].tuned)


def test_a_fingerprint_tells_parameters_apart():
  params = {'a': np.arange(4.0), 'b': {'c': np.ones((2, 3), np.float32)}}
  other = {'a': np.arange(4.0), 'b': {'c': np.ones((2, 3), np.float32) * 1.001}}
  assert response_cache.fingerprint(params) == response_cache.fingerprint(params)
  assert response_cache.fingerprint(params) != response_cache.fingerprint(other)
