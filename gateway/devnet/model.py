"""The real model behind the stand-ins: VADER, rule-based sentiment (Hutto & Gilbert, 2014)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from gateway.types import JSON

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


@cache
def _load_analyzer() -> SentimentIntensityAnalyzer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def analyze(text: str) -> dict[str, JSON]:
    """Return VADER's scores of a text, with the label that its authors derive from `compound`.

    The answers are the published ones: "VADER is smart, handsome, and funny." gives
    neg 0.0, neu 0.254, pos 0.746, compound 0.8316.
    """
    scores = _load_analyzer().polarity_scores(text)
    compound = scores["compound"]
    label = "positive" if compound >= 0.05 else "negative" if compound <= -0.05 else "neutral"
    return {"label": label, **scores}
