"""The same mixtures in other prompt styles: few-shot, ablation of instructions."""

import dataclasses

from flan_jax.mixtures.held_out import ALL, SPLITS

from flan_jax.catalog.prompt_style import MAX_FEWSHOT, PromptStyle

NUM_FEWSHOT = (1, 2, 3, 5, 10, MAX_FEWSHOT)
"""Numbers of exemplars in a prompt (FLAN section 4.4); the last is the maximum."""

ARMS = {
  'instructions': 'FLAN itself: all templates',
  'no_template': 'inputs and outputs without instructions',
  'dataset_name': 'inputs after the name of the dataset, and outputs',
}
"""Arm of the ablation of instructions (FLAN section 4.3) -> its description."""

MIXTURES = (
  *(
    dataclasses.replace(
      mixture,
      name=mixture.name + style.suffix,
      style=style,
      note=f'up to {style.num_fewshot} exemplars before each prompt (FLAN section 4.4)',
    )
    for mixture in (*ALL.values(), *SPLITS.values())
    for style in (PromptStyle(num_fewshot=num_fewshot) for num_fewshot in NUM_FEWSHOT)
  ),
  *(
    dataclasses.replace(
      mixture,
      name=f'{mixture.name}_{arm}',
      style=PromptStyle(prompt_style=arm),
      note=f'{description} (FLAN section 4.3)',
    )
    for mixture in SPLITS.values()
    for arm, description in ARMS.items()
  ),
)
