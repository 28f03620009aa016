"""Translation: seven templates into English and three out of it, evaluated separately.

The language pairs of a corpus share its templates; LANGUAGE stands for the language.
"""

from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

# News and speeches (WMT): into English, then out of it.
WMT_IN = (
  '{foreign}\n\nHow would this LANGUAGE passage read in an English newspaper?',
  'A colleague who reads no LANGUAGE has asked what the lines below say. Put them into English for her.\n\n{foreign}',
  'Keep names, figures and dates exactly as they stand and turn the rest into idiomatic English.\n\nLANGUAGE text: {foreign}',
  'Read the LANGUAGE below, then write down in English what it says, no more and no less.\n\n{foreign}',
  'You work on the foreign desk. This has just come in over the LANGUAGE wire:\n\n{foreign}\n\nFile it in English.',
  'I cannot follow the LANGUAGE newsreader. The caption on the screen is:\n{foreign}\nWhat does that mean in English?',
  'Speaker, in LANGUAGE: {foreign}\nInterpreter, in English:',
)
WMT_OUT = (
  'Our LANGUAGE edition is running this story as well. Recast the text for its readers.\n\n{english}',
  '{english}\n\nHow does one put that in LANGUAGE?',
  'The English original reads: {english}\n\nNow the same thing as a native speaker of LANGUAGE would write it:',
)

# Web text (ParaCrawl), much of it menus, captions and fragments.
PARA_CRAWL_IN = (
  'The following was lifted from a LANGUAGE website. Render it in English.\n\n{foreign}',
  '{foreign}\n\nThe site offers this in LANGUAGE alone. What would an English edition say?',
  'Localize one string of a user interface for visitors from Britain and America.\n\nString (LANGUAGE): {foreign}',
  'A browser extension lets people without any LANGUAGE read the web. It has met this segment:\n\n{foreign}\n\nWhich English segment should it display instead?',
  'Here is one half of a bilingual page, the LANGUAGE half.\n\n{foreign}\n\nProvide the English half.',
  'My LANGUAGE is poor and I have landed on a page with these words. Tell me in English what I am looking at.\n\n{foreign}',
  'From LANGUAGE: {foreign}\nInto English:',
)
PARA_CRAWL_OUT = (
  'We are opening our site to readers of LANGUAGE, beginning with this bit of copy.\n\n{english}\n\nDraft what they should see.',
  '{english}\n\nGive the LANGUAGE wording of the above.',
  'One row of a two-column phrase table has lost its right-hand cell. What belongs there?\n\nleft, English: {english}\nright, LANGUAGE:',
)

LANGUAGES = {
  'cs': 'Czech',
  'de': 'German',
  'es': 'Spanish',
  'fi': 'Finnish',
  'fr': 'French',
  'ro': 'Romanian',
  'ru': 'Russian',
  'tr': 'Turkish',
}

WMT, PARA_CRAWL = (
  {
    code: (
      *(
        Template(text.replace('LANGUAGE', name), direction=f'{code}-en')
        for text in into_english
      ),
      *(
        Template(text.replace('LANGUAGE', name), '{foreign}', direction=f'en-{code}')
        for text in out_of_english
      ),
    )
    for code, name in LANGUAGES.items()
  }
  for into_english, out_of_english in (
    (WMT_IN, WMT_OUT),
    (PARA_CRAWL_IN, PARA_CRAWL_OUT),
  )
)

DIRECTIONS = {
  code: {f'{code}-en': '{english}', f'en-{code}': '{foreign}'} for code in LANGUAGES
}

PAPER_ONLY = (
  'Listed in the figure of the FLAN paper and absent from its released code, which '
  'has WMT14 EN/FR instead: declared here, counted in no total. Splits as of '
  'para_crawl_enes.'
)

# Name, name among the paper's 62, language code, training examples, note.
PARA_CRAWL_PAIRS = (
  ('para_crawl_enes', 'ParaCrawl EN/ES', 'es', 21_987_267, ''),
  ('para_crawl_ende', '', 'de', 16_264_448, PAPER_ONLY),
  ('para_crawl_enfr', '', 'fr', 31_374_161, PAPER_ONLY),
)

# Name, name among the paper's 62, TFDS builder, language code, examples of train,
# validation and test.
WMT_PAIRS = (
  ('wmt14_enfr', 'WMT14 EN/FR', 'wmt14_translate', 'fr', 40_836_715, 3_000, 3_003),
  (
    'wmt16_translate_deen',
    'WMT16 EN/DE',
    'wmt16_translate',
    'de',
    4_548_885,
    2_169,
    2_999,
  ),
  (
    'wmt16_translate_tren',
    'WMT16 EN/TR',
    'wmt16_translate',
    'tr',
    205_756,
    1_001,
    3_000,
  ),
  (
    'wmt16_translate_csen',
    'WMT16 EN/CS',
    'wmt16_translate',
    'cs',
    52_335_651,
    2_656,
    2_999,
  ),
  (
    'wmt16_translate_fien',
    'WMT16 EN/FI',
    'wmt16_translate',
    'fi',
    2_073_394,
    1_370,
    6_000,
  ),
  (
    'wmt16_translate_roen',
    'WMT16 EN/RO',
    'wmt16_translate',
    'ro',
    610_320,
    1_999,
    1_999,
  ),
  (
    'wmt16_translate_ruen',
    'WMT16 EN/RU',
    'wmt16_translate',
    'ru',
    2_516_162,
    2_818,
    2_998,
  ),
)

NOTES = {
  'wmt14_enfr': (
    'The released code trains on WMT14 EN/FR and the paper evaluates it; the figure '
    'of the paper lists ParaCrawl EN/FR in its place. The code is followed.'
  ),
  'wmt16_translate_csen': 'The CzEng part of train needs a manual download.',
  'wmt16_translate_fien': 'test is newstest2016 and newstestB2016 together.',
}

DATASETS = (
  *(
    Dataset(
      name=name,
      paper_name=paper_name,
      in_reference=bool(paper_name),
      derived_from=('ParaCrawl',),
      cluster='translation',
      source=Tfds(f'para_crawl/en{code}:1.2.0'),
      train='train[:30000]',
      dev='train[-1200:-1000]',
      test='train[-1000:]',
      sizes={'train': train},
      fields={'english': 'en', 'foreign': code},
      answer=Text('{english}'),
      metric='bleu',
      templates=PARA_CRAWL[code],
      directions=DIRECTIONS[code],
      license='CC0 1.0 (the packaging; the texts are those of the sites crawled)',
      citation='Bañón et al. 2020, "ParaCrawl: Web-Scale Acquisition of Parallel Corpora", ACL',
      note=note,
    )
    for name, paper_name, code, train, note in PARA_CRAWL_PAIRS
  ),
  *(
    Dataset(
      name=name,
      paper_name=paper_name,
      cluster='translation',
      source=Tfds(f'{builder}/{code}-en:1.0.0'),
      train='train[:30000]',
      dev='validation[:200]',
      test='test',
      sizes={'train': train, 'validation': validation, 'test': test},
      fields={'english': 'en', 'foreign': code},
      answer=Text('{english}'),
      metric='bleu',
      templates=WMT[code],
      directions=DIRECTIONS[code],
      license='free for research (statmt.org)',
      citation=(
        'Bojar et al. 2014, "Findings of the 2014 Workshop on Statistical Machine Translation", WMT'
        if builder == 'wmt14_translate'
        else 'Bojar et al. 2016, "Findings of the 2016 Conference on Machine Translation", WMT'
      ),
      note=NOTES.get(name, ''),
    )
    for name, paper_name, builder, code, train, validation, test in WMT_PAIRS
  ),
)
