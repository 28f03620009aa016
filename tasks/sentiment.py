"""Sentiment: IMDB, Sentiment140, SST-2 and Yelp."""

from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.encodings import unescaped
from flan_jax.catalog.excerpts import opening, sentences
from flan_jax.catalog.fields import Field, drop, recode, replace
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_WORDS = ('negative', 'positive')

_YELP = (replace('\\n', '\n'), unescaped, drop(r'\\\s?(?=")'), prose)
"""Undoes the escapes in the file of Yelp's reviews."""

DATASETS = (
  Dataset(
    name='imdb_reviews',
    paper_name='IMDB',
    cluster='sentiment',
    source=Tfds('imdb_reviews/plain_text:1.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 25_000, 'test': 25_000},
    fields={
      'text': Field('text', prose, opening(600)),
      'beginning': Field('text', prose, sentences(150)),
    },
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    license='research use',
    citation='Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis", ACL',
    templates=(
      Template(
        '{text}\n\nPut in one word, the verdict of this film review is\n{OPTIONS}'
      ),
      Template(
        'A cinema sorts the letters that it gets from its audience. Into which pile should it put the letter below?\n\n{text}\n\n{OPTIONS}'
      ),
      Template('Film review:\n{text}\n\nAttitude of the reviewer:\n{OPTIONS}'),
      Template(
        'Whoever wrote these lines had just come out of a screening. What kind of impression, on balance, had it made?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'If the number of stars had been cut off the top of this write-up, would you guess that the rating was negative or positive?\n\n{text}\n\n{OPTIONS}'
      ),
      Template('Label the opinion by its tone: {text}\n{OPTIONS}'),
      Template(
        'Read to the end before you judge, since a writer may praise the cast and still dislike the picture. Taken as a whole, of what sort is the judgment passed here?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Would the director be pleased or hurt by these remarks? Answer "positive" for pleased and "negative" for hurt.\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'You have been to the pictures and your reaction is {answer}. Explain it to people who are deciding whether to go.',
        '{beginning}',
        inverted=True,
      ),
      Template(
        'A moviegoer posts a {answer} opinion of a film on the web. What might it say?',
        '{beginning}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='sentiment140',
    paper_name='Sentiment140',
    cluster='sentiment',
    source=Tfds('sentiment140:1.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 1_600_000, 'test': 498},
    fields={'text': 'text'},
    cleaning=prose,
    answer=Label('polarity', _WORDS, recode({0: 0, 2: -1, 4: 1})),
    metric='accuracy',
    differs="without the neutral tweets of the test set, which FLAN's code counts as negative",
    license='academic use; no formal license',
    citation='Go, Bhayani and Huang 2009, "Twitter Sentiment Classification using Distant Supervision", Stanford technical report',
    note='Neutral tweets (polarity 2, in the test split only) are dropped and counted; the reference calls them negative.',
    templates=(
      Template('Tweet: {text}\nMood of the writer:\n{OPTIONS}'),
      Template(
        '{text}\n\nThat was posted on a microblog. What sort of feeling does it give off?\n\n{OPTIONS}'
      ),
      Template(
        'A company keeps two tallies of what people say about it online, one for the good things and one for the bad. To which tally should it add this message?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Emoticons, slang and misspellings notwithstanding, which way does the following lean?\n\n{text}\n{OPTIONS}'
      ),
      Template(
        'Picture the face of whoever typed these words. What can you read in it, displeasure (negative) or pleasure (positive)?\n\n{text}\n\n{OPTIONS}'
      ),
      Template('Judge the spirit of this status update: {text}\n{OPTIONS}'),
      Template(
        'Going through a friend\'s feed, you come to this entry.\n\n{text}\n\nShould it worry you or cheer you? Say "negative" if it should worry you, "positive" if it should cheer you.\n\n{OPTIONS}'
      ),
      Template(
        'Social media post, up to 140 characters:\n{text}\n\nWhich single adjective sums up how its author feels?\n{OPTIONS}'
      ),
      Template(
        'Say something {answer} in 140 characters or fewer.',
        '{text}',
        inverted=True,
      ),
      Template(
        'What could somebody in a {answer} frame of mind tell their followers?',
        '{text}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='sst2',
    paper_name='SST-2',
    derived_from=('Rotten Tomatoes reviews',),
    cluster='sentiment',
    source=Tfds('glue/sst2:2.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 67_349, 'validation': 872},
    fields={'sentence': 'sentence'},
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    license='none stated; research use',
    citation='Socher et al. 2013, "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP; Wang et al. 2019, "GLUE", ICLR',
    templates=(
      Template(
        "From a film critic's column: {sentence}\nThe critic is being\n{OPTIONS}"
      ),
      Template(
        'Posters quote reviewers a few words at a time. Would this quotation count as negative or positive publicity?\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        '{sentence}\n\nBrief as it is, the phrase passes judgment on a movie. Of what kind?\n{OPTIONS}'
      ),
      Template('Mark the polarity of this snippet: {sentence}\n{OPTIONS}'),
      Template('Quote: {sentence}\nSlant:\n\n{OPTIONS}'),
      Template(
        'Is the writer kind or harsh here? Kind goes down as positive, harsh as negative.\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'Some words lifted from an article on a new release are shown below. What feeling toward the release do they convey?\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'An actor checks every mention of her latest picture and pastes the pleasant ones into an album. Decide whether the following line will strike her as negative or positive.\n\n{sentence}\n\n{OPTIONS}'
      ),
      Template(
        'Give me a scrap of film criticism that is unmistakably {answer}.',
        '{sentence}',
        inverted=True,
      ),
      Template(
        'Be {answer} about a movie, in the space of a line.',
        '{sentence}',
        inverted=True,
      ),
    ),
  ),
  Dataset(
    name='yelp_polarity_reviews',
    paper_name='Yelp',
    cluster='sentiment',
    source=Tfds('yelp_polarity_reviews:0.2.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='test',
    sizes={'train': 560_000, 'test': 38_000},
    fields={
      'text': Field('text', *_YELP, opening(600)),
      'beginning': Field('text', *_YELP, sentences(150)),
    },
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    license='Yelp dataset terms; academic use',
    citation='Zhang, Zhao and LeCun 2015, "Character-level Convolutional Networks for Text Classification", NeurIPS',
    templates=(
      Template(
        'A customer wrote this about a local business.\n\n{text}\n\nWhat was the experience like, all told?\n{OPTIONS}'
      ),
      Template(
        '{text}\n\nIf you owned the place, would you file those comments under negative or positive feedback?\n\n{OPTIONS}'
      ),
      Template(
        'One or two stars make a review negative, four or five make it positive. Going by nothing but what is written here, which must it be?\n\n{text}\n\n{OPTIONS}'
      ),
      Template('Guest book entry:\n{text}\n\nThe entry is\n{OPTIONS}'),
      Template(
        'Would this person send friends there? Reply "positive" if they would recommend the visit and "negative" if they would warn against it.\n\n{text}\n\n{OPTIONS}'
      ),
      Template('Sum up the outcome of the visit in a word.\n\n{text}\n{OPTIONS}'),
      Template(
        'The manager has no time to read the remarks below and only asks in which direction they point, on the whole. What do you tell her?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'Skip the small talk and go to the bottom line: does this account of a shop, restaurant or service come out negative or positive?\n\n{text}\n\n{OPTIONS}'
      ),
      Template(
        'A visitor leaves a shop or restaurant with a {answer} impression and goes home to write about it. What do they write?',
        '{beginning}',
        inverted=True,
      ),
      Template(
        'In the voice of a real customer, compose a {answer} appraisal of a business such as a hotel, a garage or a café.',
        '{beginning}',
        inverted=True,
      ),
    ),
  ),
)
