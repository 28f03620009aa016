"""The response cache: an interrupted evaluation resumes."""

import json

import jax
import numpy as np
import pytest
from oracle import BYTES, RANKED, WRITTEN, Oracle, examples

from flan_jax.evaluate import evaluator, response_cache
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Request


class Counted(Oracle):
  """Counts its calls; its scores need every bit of a float32."""

  calls = 0

  def loglikelihood(self, requests):
    self.calls += 1
    scored = super().loglikelihood(requests)
    scores = [values / np.float32(3) for values in scored.log_probabilities]
    return scored._replace(log_probabilities=scores, seconds=1.5)

  def generate(self, prompts, *, max_tokens):
    self.calls += 1
    return super().generate(prompts, max_tokens=max_tokens)


def requests(*texts):
  ids = BYTES.encode_batch(texts)
  options = tuple(BYTES.encode_batch(['yes', 'no']))
  return [Request(prompt, options) for prompt in ids]


@pytest.fixture
def model():
  return Counted(lambda prompt: 'yes')


def test_an_answer_is_computed_once(model, tmp_path):
  path = tmp_path / 'journal.jsonl'
  first = ResponseCache(model, path, model_id='a')
  scored = first.loglikelihood(requests('one', 'two'))
  written = first.generate([BYTES.encode_batch(['x'])[0]], max_tokens=4)
  first.close()

  second = ResponseCache(model, path, model_id='a')
  again = second.loglikelihood(requests('one', 'two'))
  for one, other in zip(scored.log_probabilities, again.log_probabilities, strict=True):
    assert one.dtype == other.dtype == np.float32
    assert one.tobytes() == other.tobytes()
  assert again[1:] == scored[1:]
  assert second.generate([BYTES.encode_batch(['x'])[0]], max_tokens=4) == written
  assert (model.calls, second.replayed) == (2, 2)
  second.loglikelihood(requests('one', 'three'))
  assert (model.calls, second.replayed) == (3, 2)


@pytest.mark.parametrize('kept', [1, 30, 200, -3])
def test_a_torn_file_loses_its_last_call_alone(kept, model, tmp_path):
  """Whatever byte a crash left as the last, the answers are right."""
  path = tmp_path / 'journal.jsonl'
  first = ResponseCache(model, path, model_id='a')
  for text in ('one', 'two', 'three'):
    first.loglikelihood(requests(text))
  first.close()
  whole = path.read_bytes()
  path.write_bytes(whole[:kept])

  lines = whole[:kept].count(b'\n')
  second = ResponseCache(model, path, model_id='a')
  for text in ('one', 'two', 'three'):
    second.loglikelihood(requests(text))
  second.close()
  assert second.replayed == max(lines - 1, 0)
  assert path.read_bytes() == whole


def test_a_file_of_another_model_is_overwritten(model, tmp_path):
  path = tmp_path / 'journal.jsonl'
  for model_id in ('a', 'b', 'a'):
    cache = ResponseCache(model, path, model_id=model_id)
    cache.loglikelihood(requests('one'))
    cache.close()
  assert model.calls == 3


@pytest.mark.parametrize('head', [{'of': 'a'}, {'format': 1, 'of': 'a'}])
def test_a_file_of_an_older_format_is_overwritten_with_a_message(head, model, tmp_path):
  """Its answers are never read, even for the same model."""
  path, lines = tmp_path / 'journal.jsonl', []
  first = ResponseCache(model, path, model_id='a', log=lines.append)
  first.loglikelihood(requests('one'))
  first.close()
  now, answer = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(json.dumps(head).encode() + b'\n' + answer)

  second = ResponseCache(model, path, model_id='a', log=lines.append)
  second.loglikelihood(requests('one'))
  second.close()
  assert (model.calls, second.replayed) == (2, 0)
  assert path.read_bytes() == now + answer
  (line,) = lines
  assert line.endswith(
    "journal.jsonl': has format 1, this version writes 3; starting over"
  )


def test_a_damaged_line_is_computed_again(model, tmp_path):
  path, lines = tmp_path / 'journal.jsonl', []
  first = ResponseCache(model, path, model_id='a')
  scored = [first.loglikelihood(requests(text)) for text in ('one', 'two')]
  first.close()
  whole = path.read_bytes()
  path.write_bytes(whole.replace(b'-0.3', b'-0.4'))  # another score

  second = ResponseCache(model, path, model_id='a', log=lines.append)
  again = [second.loglikelihood(requests(text)) for text in ('one', 'two')]
  second.close()
  assert b'-0.3' in whole
  assert second.replayed == 0
  for one, other in zip(scored, again, strict=True):
    np.testing.assert_equal(other.log_probabilities, one.log_probabilities)
  (line,) = lines
  assert line.endswith('2 damaged lines are skipped; their answers are computed again')

  third = ResponseCache(model, path, model_id='a', log=lines.append)
  third.loglikelihood(requests('one'))
  assert third.replayed == 1


def test_answers_of_the_version_before_are_taken_without_checksums(model, tmp_path):
  path, lines = tmp_path / 'journal.jsonl', []
  first = ResponseCache(model, path, model_id='a')
  first.loglikelihood(requests('one'))
  first.close()
  entries = [json.loads(line) for line in path.read_bytes().splitlines()]
  for entry in entries:
    del entry['crc32']
  entries[0]['format'] = response_cache.UNCHECKED
  path.write_text(''.join(f'{json.dumps(entry)}\n' for entry in entries))

  second = ResponseCache(model, path, model_id='a', log=lines.append)
  second.loglikelihood(requests('one'))
  second.loglikelihood(requests('two'))
  second.close()
  assert second.replayed == 1
  assert 'without checksums; its answers are taken as they are' in lines[0]


def test_an_interrupted_evaluation_ends_like_an_uninterrupted_one(model, tmp_path):
  read = {RANKED.name: examples(RANKED, 5), WRITTEN.name: examples(WRITTEN, 5)}

  def evaluate(scorer):
    return evaluator.evaluate(
      scorer,
      datasets=[RANKED, WRITTEN],
      examples=lambda name, split: read[name](name, split),
    )

  whole = evaluate(Counted(lambda prompt: 'yes'))
  path = tmp_path / 'journal.jsonl'
  stopped = ResponseCache(model, path, model_id='a')
  evaluator.evaluate(stopped, datasets=[RANKED], examples=read[RANKED.name])
  stopped.close()
  resumed = ResponseCache(model, path, model_id='a')
  found = evaluate(resumed)
  assert (model.calls, resumed.replayed) == (2, 1)
  assert found.timing == whole.timing
  for one, other in zip(whole.datasets, found.datasets, strict=True):
    for split in one.splits:
      np.testing.assert_array_equal(one.splits[split].tuned, other.splits[split].tuned)


def test_fingerprints_of_different_parameters_differ():
  params = {'a': np.arange(4.0), 'b': {'c': np.ones((2, 3), np.float32)}}
  other = {'a': np.arange(4.0), 'b': {'c': np.ones((2, 3), np.float32) * 1.001}}
  assert response_cache.fingerprint(params) == response_cache.fingerprint(params)
  assert response_cache.fingerprint(params) != response_cache.fingerprint(other)


def test_the_host_hashes_as_a_program_does(monkeypatch):
  rng = np.random.default_rng(0)
  params = {
    'wide': rng.normal(size=(3, 5, 7)).astype(np.float32),
    'narrow': jax.numpy.asarray(rng.normal(size=(300, 7)), jax.numpy.bfloat16),
    'one': np.float32(-2),
  }
  on_host = response_cache.fingerprint(params)
  monkeypatch.setattr(response_cache, '_ON_HOST', 0)
  assert response_cache.fingerprint(params) == on_host
