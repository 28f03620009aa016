"""A chat template of anybody's renders within bounds, and else as Jinja does."""

import jinja2
import pytest
from jinja2 import ext, sandbox

from flan_jax.data import chat_sandbox

LONG = "{% set a = 'a' * 100000 %}"
GROWING = (
  '{{% set n = namespace(x={}) %}}{{% for i in range(99) %}}{{% set n.x = {} %}}'
)
ATTACKS = {
  'loops': '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}'
  '{% endfor %}',
  'output': "{% for i in range(99999) %}{{ 'a' * 100000 }}{% endfor %}",
  'block': "{% set x %}{% for i in range(999) %}{{ 'a' * 100000 }}{% endfor %}"
  '{% endset %}',
  'range': '{% for i in range(10**9) %}{% endfor %}',
  'macros': '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}'
  '{% endmacro %}{{ f(90) }}',
  'recursion': '{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}',
  'recursive loop': '{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}',
  'text': "{{ 'a' * 10**10 }}",
  'list': '{{ [1] * 10**10 }}',
  'power': '{{ 10**(10**8) }}',
  'product': GROWING.format('10', 'n.x * n.x') + '{% endfor %}{{ n.x }}',
  'joined': GROWING.format("'ab'", 'n.x ~ n.x') + '{% endfor %}{{ n.x }}',
  'sum': GROWING.format("'ab'", 'n.x + n.x') + '{% endfor %}{{ n.x }}',
  'nested lists': GROWING.format('[1]', '[n.x, n.x]') + '{% endfor %}{{ n.x }}',
  'nested objects': GROWING.format('1', "{'a': n.x, 'b': n.x}") + '{% endfor %}',
  'nested call': GROWING.format('1', 'dict(a=n.x, b=n.x)') + '{% endfor %}',
  'method': "{{ 'a'.center(10**10) }}",
  'filter': "{{ 'a'|center(10**10) }}",
  'mapped filter': "{{ ['a']|map('center', 10**10)|list }}",
  'format': "{{ '{:>10000000000}'.format(1) }}",
  'percent': "{{ '%10000000000d' % 1 }}",
  'percent star': "{{ '%*d' % (10**10, 1) }}",
  'format filter': "{{ '%10000000000d'|format(1) }}",
  'replace': LONG + "{{ a.replace('a', a) }}",
  'replace filter': LONG + "{{ a|replace('a', a) }}",
  'join': LONG + '{{ a.join(a) }}',
  'join filter': LONG + '{{ range(99999)|join(a) }}',
  'join of a generator': LONG + "{{ a.join(range(99999)|map('string')) }}",
  'join of long texts': LONG + "{{ ''.join([a] * 100) }}",
  'tabs': "{{ ('\t' * 100000).expandtabs(100000) }}",
  'translate': "{{ ('a' * 100000).translate({97: 'b' * 100000}) }}",
  'json': '{{ [1]|tojson(10**10) }}',
  'bytes': "{{ 'a'.encode() * 10**10 }}",
  'long literal': '{{ ' + '9' * 5000 + ' }}',
  'deep': '{{ ' + '(' * 5000 + '1' + ')' * 5000 + ' }}',
  'inside of Python': "{{ ''.__class__.__mro__ }}",
  'division': '{{ 1 % 0 }}',
}

MESSAGES = [
  {'role': role, 'content': f'{role} says <b> 12345%\n', 'calls': [{'a': [1, 2.5]}]}
  for role in ('system', 'user', 'assistant', 'user')
]
TEMPLATES = {
  'loop variables': '{% for m in messages %}{{ loop.index }}/{{ loop.length }}'
  '{{ m.role if loop.first else m["content"]|trim }}{{ "," if not loop.last }}'
  '{% if loop.index0 == 2 %}{% break %}{% endif %}{% endfor %}',
  'state': '{% set ns = namespace(n=0, last="") %}{% for m in messages[::-1] %}'
  '{% set ns.n = ns.n + m.content|length * 2 %}{% set ns.last = ns.last ~ m.role %}'
  '{% endfor %}{{ ns.n }} {{ ns.last }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ "a" * 3 }}',
  'filters': '{{ messages|map(attribute="role")|join("|") }}'
  '{{ messages|selectattr("role", "equalto", "user")|list|length }}'
  '{{ (messages|first).calls[0].a|sum }} {{ "%s-%02d" % ("x", 7) }}'
  '{{ messages[0].content.split("<b>")[-1]|upper }}{{ {"k": (1, "z")}.items()|list }}',
  'macro': '{% macro show(m, mark="#") %}{{ mark }}{{ m.role|title }}{{ caller() if '
  'caller }}{% endmacro %}{% for a, b in [(1, 2), (3, 4)] %}{{ a * b }}{% endfor %}'
  '{% for m in messages if m.role != "system" %}{{ show(m) }}{% else %}none'
  '{% endfor %}{% call show(messages[0]) %}!{% endcall %}{{ messages[9] is defined }}',
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_a_template_is_bounded(attack, monkeypatch):
  monkeypatch.setattr(chat_sandbox, 'MAX_SECONDS', 0.05)
  environment = chat_sandbox.Environment()
  errors = (jinja2.TemplateError, ValueError, ArithmeticError, RecursionError)
  with pytest.raises(errors):
    environment.rendered(environment.from_string(ATTACKS[attack]))


@pytest.mark.parametrize('name', TEMPLATES)
def test_a_usual_template_renders_as_in_jinja(name):
  plain = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols]
  )
  environment = chat_sandbox.Environment()
  found = environment.rendered(
    environment.from_string(TEMPLATES[name]), messages=MESSAGES
  )
  assert found == plain.from_string(TEMPLATES[name]).render(messages=MESSAGES)
  assert found
