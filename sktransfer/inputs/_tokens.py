"""From a text of any length to the tokens that a network sees, in windows of one length."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..exceptions import PreprocessingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ._texts import OpenedText

__all__ = ["LONG_TEXTS", "SPECIAL", "TextPreparation"]


LONG_TEXTS = ("windows", "head", "head_tail", "error")
# What stands in the third place of a token: the number of its word, from 1, or one of these.
SPECIAL, ELSEWHERE = 0, -1

# Part of the keys of the cache: to be raised when the tokens of a text change.
READING = 1


@dataclass(frozen=True)
class TextPreparation:
    """How a text becomes the tokens that a network sees (a `Preparation`).

    An item becomes an array (n_windows, n_tokens, 3) of whole numbers: for each token its number in
    the vocabulary, its segment (1 for the second text of a pair), and its word: the number from 1
    of the word that it is a part of, 0 for the special tokens of the network, such as [CLS], and -1
    for a token that another window counts. Texts that are not split into words are one word.

    A text that is longer than the network reads becomes windows, all of the same length, that lie
    evenly over it; a token in two of them counts in the one in which it stands further from the
    edge.

    Attributes
    ----------
    max_tokens : int
        Tokens of a window, special ones included.
    long_texts : {"windows", "head", "head_tail", "error"}
    stride : float
        Share of a window that the next one covers as well, in [0, 1).
    prompt : str
        Put before each text.
    split : {"texts", "pairs", "words"}
        What an item is.
    digest : str
        Of the tokenizer.
    tokenizer : callable
        Gives it. It is made when it is first needed, in each process.
    unknown : int or None
        Number of the token that stands for what the tokenizer does not know.
    """

    max_tokens: int
    long_texts: str
    stride: float
    prompt: str
    split: str
    digest: str
    tokenizer: Callable[[], Tokenizer] = field(repr=False, compare=False)
    unknown: int | None = field(default=None, repr=False, compare=False)

    in_windows: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens of a window, whose number differs, and what is told of each."""
        return (-1, 3)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    @property
    def facts(self) -> dict[str, Any]:
        """What it does, for people who read a file of codes."""
        names = ("max_tokens", "long_texts", "stride", "prompt", "split")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def key(self) -> str:
        """What decides the tokens of a text of some digest, the same in every process."""
        return f"tokens {READING}, {self!r}"

    @property
    def counts_all(self) -> bool:
        """Whether something may be left out, which is told also of texts that are known."""
        return self.long_texts in ("head", "head_tail")

    def probes(self) -> list[np.ndarray]:
        """Two texts, then three longer ones, of the first numbers of the vocabulary."""
        size = min(self.tokenizer().get_vocab_size(), 1000)
        draw = np.random.default_rng(0)
        made = []
        for n, length in ((2, 7), (3, 12)):
            tokens = np.zeros((n, min(length, self.max_tokens), 3), np.int32)
            tokens[..., 0] = draw.integers(0, size, tokens.shape[:2])
            tokens[:, 1:-1, 2] = 1
            made.append(tokens)
        return made

    def __call__(self, item: Any) -> np.ndarray:
        """The tokens of an opened text, in windows.

        Raises
        ------
        TextError
            If it has no token, or is too long where that is an error.
        """
        if self.key not in item.prepared:
            item.prepared[self.key] = self._made(item)
        return item.prepared[self.key]

    def _made(self, item: OpenedText) -> np.ndarray:
        tokenizer = self.tokenizer()
        frame = frame_of(tokenizer, self.digest, pair=self.split == "pairs")
        tokens = self._encoded(tokenizer, item, frame)
        if self.split != "words" and not all(map(len, tokens)):
            raise item.error(
                "has no token that the network knows: it holds characters alone that its "
                "tokenizer leaves out"
            )
        if not frame.n_tokens and not any(len(one) for one in tokens):
            # A sentence of no words: the network must have something to read.
            tokens = [_made_of([self.unknown or 0], frame.segments, [SPECIAL])]
        windows, n_lost = self._windows(tokens, self.max_tokens - frame.n_tokens, item)
        n_unknown = 0
        if self.unknown is not None:
            n_unknown = sum(int(np.count_nonzero(one[:, 0] == self.unknown)) for one in tokens)
        item.note(n_tokens=sum(map(len, tokens)), n_lost=n_lost, n_unknown=n_unknown)
        framed = [frame.around(one) for one in windows]
        return framed[0][None] if len(framed) == 1 else np.stack(framed)

    def _encoded(self, tokenizer: Tokenizer, item: OpenedText, frame: Frame) -> list[np.ndarray]:
        """The tokens of a text, or of both of a pair, without special ones."""
        encode, content = tokenizer.encode, item.content
        if self.split == "words":
            # The prompt is a word before the first; as such it has the number of special tokens.
            first = 0 if self.prompt else 1
            words = [self.prompt, *content] if self.prompt else list(content)
            words[1:] = [frame.gap + word if word else word for word in words[1:]]
            found = encode(words, is_pretokenized=True, add_special_tokens=False)
            ids, numbers = found.ids, [first + one for one in found.word_ids if one is not None]
            if not frame.control.keys().isdisjoint(ids):
                ids, numbers = frame.as_text(ids, numbers, tokenizer)
            return [_made_of(ids, frame.segments[:1] * len(ids), numbers)]
        texts = [content] if self.split == "texts" else list(content)
        texts[0] = self.prompt + texts[0]
        tokens = []
        for text, segment in zip(texts, frame.segments, strict=True):
            ids = encode(text, add_special_tokens=False).ids
            if not frame.control.keys().isdisjoint(ids):
                ids, _ = frame.as_text(ids, ids, tokenizer)
            one = np.empty((len(ids), 3), np.int32)
            one[:, 0], one[:, 1], one[:, 2] = ids, segment, 1
            tokens.append(one)
        return tokens

    def _windows(
        self, tokens: list[np.ndarray], room: int, item: OpenedText
    ) -> tuple[list[list[np.ndarray]], int]:
        """Texts, each of them cut to windows, and how many tokens are left out."""
        total = sum(map(len, tokens))
        if total <= room:
            return [tokens], 0
        if self.long_texts == "error":
            raise item.error(
                f"has {total} tokens, but the network reads {room} (max_tokens="
                f'{self.max_tokens}, special tokens included). Take long_texts="windows", which '
                "reads all of them"
            )
        longer = int(np.argmax([len(one) for one in tokens]))
        # Of a pair the longer one is cut, the shorter stands in every window.
        shorter = total - len(tokens[longer])
        lost = 0
        if len(tokens) == 2 and shorter > room // 2:
            other = 1 - longer
            lost, tokens = shorter - room // 2, list(tokens)
            tokens[other] = tokens[other][: room // 2]
            shorter = room // 2
        parts = self._parts(tokens[longer], room - shorter)
        if self.long_texts != "windows":
            lost += len(tokens[longer]) - len(parts[0])
        pieces = []
        for number, part in enumerate(parts):
            window = list(tokens)
            window[longer] = part
            if len(tokens) == 2 and number:  # the shorter one counts once
                window[1 - longer] = _not_counted(tokens[1 - longer], slice(None))
            pieces.append(window)
        return pieces, lost

    def _parts(self, tokens: np.ndarray, room: int) -> list[np.ndarray]:
        """A text in pieces of `room` tokens."""
        if self.long_texts == "head":
            return [tokens[:room]]
        if self.long_texts == "head_tail":
            # A quarter from the beginning, the rest from the end: see C. Sun et al. (2019), How to
            # fine-tune BERT for text classification?, section 4.1.
            head = room // 4
            return [np.concatenate([tokens[:head], tokens[len(tokens) - (room - head) :]])]
        n, overlap = len(tokens), int(self.stride * room)
        count = math.ceil((n - overlap) / (room - overlap))
        starts = [round(i * (n - room) / (count - 1)) for i in range(count)]
        # Where one window ends to count and the next begins: in the middle of what both cover.
        ends = [(start + room + after) // 2 for start, after in pairwise(starts)]
        parts = []
        for start, begin, end in zip(starts, [0, *ends], [*ends, n], strict=True):
            part = _not_counted(tokens[start : start + room], slice(0, begin - start))
            parts.append(_not_counted(part, slice(end - start, None)))
        return parts


# The special tokens of a network, such as [CLS] and [SEP].


@dataclass(frozen=True, eq=False)
class Frame:
    """What stands around one text, or around and between the two of a pair.

    Attributes
    ----------
    special : list of ndarray of shape (n, 3)
        Before the first text, and behind each.
    segments : list of int
        Of each text.
    control : dict of int to str
        All special tokens by number, as they are written, but for the one that stands for what is
        not known.
    gap : str
        What must stand before all words of a sentence but the first for their tokens to be those
        of the sentence as a text: a space for tokenizers to which it is a part of the word.
    """

    special: list[np.ndarray]
    segments: list[int]
    control: dict[int, str]
    gap: str

    def as_text(
        self, ids: Sequence[int], numbers: Sequence[int], tokenizer: Tokenizer
    ) -> tuple[list[int], list[int]]:
        """Tokens of a text that spells out special ones, as in ``</s>``: their characters instead.

        Tokenizers that look up whole words, or the likeliest pieces, find them in their vocabulary.
        What is instead of a token has its number.
        """
        plain: list[int] = []
        kept: list[int] = []
        for one, number in zip(ids, numbers, strict=True):
            pieces = [one]
            if one in self.control:
                letters = map(tokenizer.model.tokenize, self.control[one])
                pieces = [piece.id for found in letters for piece in found]
            plain += pieces
            kept += [number] * len(pieces)
        return plain, kept

    @property
    def n_tokens(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.special))

    def around(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """One window: texts with the special tokens."""
        parts = [self.special[0]]
        for text, behind in zip(texts, self.special[1:], strict=True):
            parts += [text, behind]
        return np.concatenate(parts)


_frames: dict[tuple[str, bool], Frame] = {}


def frame_of(tokenizer: Tokenizer, digest: str, *, pair: bool) -> Frame:
    """The special tokens of a tokenizer, found by what it makes of texts of a letter each."""
    if (digest, pair) not in _frames:
        _frames[digest, pair] = _found_frame(tokenizer, ("a", "b") if pair else ("a",))
    return _frames[digest, pair]


def _found_frame(tokenizer: Tokenizer, texts: tuple[str, ...]) -> Frame:
    whole = tokenizer.encode(*texts)  # type: ignore[arg-type]
    ids, types = whole.ids, whole.type_ids
    bounds, segments, at = [], [], 0
    for text in texts:
        own = tokenizer.encode(text, add_special_tokens=False).ids
        places = range(at, len(ids) - len(own) + 1)
        place = next((i for i in places if own and ids[i : i + len(own)] == own), None)
        if place is None:
            raise PreprocessingError(
                f"The tokenizer makes {own} of {text!r} alone, and {ids} of {' and '.join(texts)} "
                "with special tokens around: it must be a tokenizer of words or parts of words, "
                "that puts special tokens before, between and behind texts. Pass another one as "
                "tokenizer=."
            )
        bounds.append(slice(at, place))
        segments.append(types[place])
        at = place + len(own)
    bounds.append(slice(at, len(ids)))
    special = [_made_of(ids[one], types[one], [SPECIAL] * len(ids[one])) for one in bounds]
    unknown = getattr(tokenizer.model, "unk_token", None)
    control = {
        number: token.content
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if token.special and token.content != unknown
    }
    return Frame(special, segments, control, _gap_of(tokenizer))


def _gap_of(tokenizer: Tokenizer) -> str:
    """A space where it makes words of their own the tokens of a text, and nothing does not."""
    text = tokenizer.encode("a a", add_special_tokens=False).ids
    without, with_space = (
        tokenizer.encode(["a", word], is_pretokenized=True, add_special_tokens=False).ids
        for word in ("a", " a")
    )
    return " " if with_space == text != without else ""


def digest_of_tokenizer(description: str) -> str:
    """A hash of what a tokenizer does, from its description in JSON."""
    return hashlib.sha256(description.encode()).hexdigest()[:32]


def _made_of(*columns: Sequence[int]) -> np.ndarray:
    return np.array(columns, np.int32).T.reshape(-1, 3)


def _not_counted(tokens: np.ndarray, part: slice) -> np.ndarray:
    tokens = tokens.copy()
    tokens[part, 2] = ELSEWHERE
    return tokens
