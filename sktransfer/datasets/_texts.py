"""Two thousand sentences with ratings, and addresses with a label for every word, that ship."""

from __future__ import annotations

import gzip
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer._optional import import_optional
from sktransfer.datasets._cifar10 import read_descr, shipped

FILM_SENTENCES = "data/film_sentences_sample.tsv.gz"
ADDRESSES = "data/addresses_sample.tsv.gz"


def load_film_sentences_sample(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load 2,000 sentences of film reviews with their mean ratings; nothing is downloaded.

    Half of them are rated above and half below zero, on average over some 20 people. Made for
    telling positive from negative sentences, and for regression on the ratings.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Give sentences, classes and ratings as Series of pandas, and all three as a DataFrame.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object (str), shape (2000,)
            The sentences, in English, of 1 to 48 words; the classes are mixed, always in the same
            order. If `as_frame`, a Series named ``sentence``.
        target : ndarray of int64, shape (2000,)
            1 where the mean rating is above zero, 0 where it is below. If `as_frame`, a Series
            named ``target``.
        target_names : ndarray of str, shape (2,)
            ``negative`` and ``positive``.
        ratings : ndarray of float64, shape (2000,)
            The mean rating, from -4 (extremely negative) to 4 (extremely positive), and never 0.
            If `as_frame`, a Series named ``rating``.
        frame : DataFrame, shape (2000, 3)
            The columns ``sentence``, ``target`` and ``rating``. Only if `as_frame`.
        source_indices : ndarray of int64, shape (2000,)
            The place of each sentence in the original table, from 0 to 10604.
        filename : str
            The table the sentences are read from.
        DESCR : str
            The full description.

    (data, target) : tuple if ``return_X_y=True``
        The two described above.

    Raises
    ------
    ImportError
        If `as_frame` and pandas is not installed.

    See Also
    --------
    load_addresses_sample : Addresses with a label for every word.

    Notes
    -----
    Provenance: the sentences come from reviews on the site Rotten Tomatoes and were collected by
    Bo Pang and Lillian Lee [2]_; C.J. Hutto and Eric Gilbert had them rated [1]_ and distribute
    them with the package vaderSentiment.

    Licence: that package is under the MIT licence, whose text is in the description. Each
    sentence is a quotation from a review, whose author keeps the rights in it.

    References
    ----------
    .. [1] C.J. Hutto and E. Gilbert, "VADER: a parsimonious rule-based model for sentiment
       analysis of social media text", ICWSM 2014.
    .. [2] B. Pang and L. Lee, "Seeing stars: exploiting class relationships for sentiment
       categorization with respect to rating scales", ACL 2005.

    Examples
    --------
    >>> from sktransfer.datasets import load_film_sentences_sample
    >>> film = load_film_sentences_sample()
    >>> film.data.shape
    (2000,)
    >>> print(film.data[8])
    Rambles on in a disjointed, substandard fashion from one poorly executed action sequence...
    >>> print(film.target_names[film.target[8]], film.ratings[8])
    negative -2.1
    """
    rows = _read_table(FILM_SENTENCES)
    data = np.array([sentence for _, _, sentence in rows], dtype=object)
    ratings = np.array([float(rating) for _, rating, _ in rows])
    target = (ratings > 0).astype(np.int64)
    rest: dict[str, Any] = {}
    if as_frame:
        pandas = import_optional("pandas", "load_film_sentences_sample with as_frame", "plot")
        frame = pandas.DataFrame({"sentence": data, "target": target, "rating": ratings})
        data, target, ratings = (frame[name] for name in frame)
        rest["frame"] = frame
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array(["negative", "positive"]),
        ratings=ratings,
        source_indices=np.array([int(index) for index, _, _ in rows], dtype=np.int64),
        filename=str(shipped(FILM_SENTENCES)),
        DESCR=read_descr("film_sentences_sample"),
        **rest,
    )


def load_addresses_sample(*, return_X_y: bool = False) -> Any:
    """Load 1,487 addresses in the United States, each word with its label; nothing is downloaded.

    Made for labelling every word of a sequence: the number of the house, the name of the street,
    the place and 26 other kinds of words.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : list of 1,487 lists of str
            The words of each address, from 1 to 19 of them and 10,548 in all, as they were
            written, with commas and full stops; always in the same, mixed order.
        target : list of 1,487 lists of str
            The label of each word. There are no beginnings and insides: words that follow each
            other with one label are one part of the address.
        target_names : ndarray of str, shape (29,)
            The labels there are, sorted.
        source_indices : ndarray of int64, shape (1487,)
            The place of each address in the original file, from 0 to 1512.
        filename : str
            The table the addresses are read from.
        DESCR : str
            The full description.

    (data, target) : tuple if ``return_X_y=True``
        The two lists described above.

    See Also
    --------
    load_film_sentences_sample : Sentences with a class and a rating each.

    Notes
    -----
    Provenance: the training data of the package usaddress [1]_, by DataMade and its contributors.

    Licence: MIT, (c) The Atlanta Journal Constitution; the text is in the description.

    References
    ----------
    .. [1] F. Gregg, C. Deng, M. Batchkarov and J. Cochrane, "usaddress".
       https://github.com/datamade/usaddress

    Examples
    --------
    >>> from sktransfer.datasets import load_addresses_sample
    >>> addresses = load_addresses_sample()
    >>> addresses.data[0]
    ['123', 'Main', 'St', 'West', 'Lafayette', 'INDIANA']
    >>> addresses.target[0]  # doctest: +NORMALIZE_WHITESPACE
    ['AddressNumber', 'StreetName', 'StreetNamePostType', 'PlaceName', 'PlaceName', 'StateName']
    """
    # Words of one address follow each other, and no two addresses have one index.
    addresses = [list(rows) for _, rows in groupby(_read_table(ADDRESSES), key=itemgetter(0))]
    data = [[word for _, word, _ in rows] for rows in addresses]
    target = [[label for _, _, label in rows] for rows in addresses]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.unique([label for labels in target for label in labels]),
        source_indices=np.array([int(rows[0][0]) for rows in addresses], dtype=np.int64),
        filename=str(shipped(ADDRESSES)),
        DESCR=read_descr("addresses_sample"),
    )


def _read_table(name: str) -> list[list[str]]:
    """Read the rows, without the header, of a table that ships."""
    lines = gzip.decompress(shipped(name).read_bytes()).decode("utf-8").split("\n")
    return [line.split("\t") for line in lines[1:-1]]
