"""Chat templates of tests, and the control tokens that they write."""

MARKS = ('<|im_start|>', '<|im_end|>', '<|pad|>')

PLAIN = """\
{%- for message in messages %}
  {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
"""Turns of any role."""

MARKED = """\
{%- for message in messages %}
  {%- if message['role'] not in ('user', 'assistant') %}
    {{- raise_exception('no ' + message['role']) }}
  {%- endif %}
  {{- '<|im_start|>' + message['role'] + '\\n' }}
  {%- generation %}{{ message['content'] | trim }}{% endgeneration -%}
  {{- eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
"""Turns of two roles, with the answers between marks of generation."""
