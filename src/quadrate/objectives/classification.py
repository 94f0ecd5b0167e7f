"""Classification: what a classifier still reads in a reconstruction, or in the code itself."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.objectives.term import Batch


class CrossEntropy:
    """Cross-entropy, in nats, of the labels under a frozen classifier of the reconstruction.

    An upper bound of H(S | X̂) (RDPC, Wang et al. 2025).

    Args:
        classifier: Images (N, C, H, W) to logits or log-probabilities (N, classes). It is put in
            evaluation mode and frozen here.
    """

    def __init__(self, classifier: nn.Module) -> None:
        self.classifier = classifier.eval().requires_grad_(False)

    def __call__(self, batch: Batch) -> Tensor:
        """One number a model, (K,)."""
        logits = self.classifier(batch.reconstruction.flatten(0, 1)).float()
        return _cross_entropy(logits, batch.labels)


def estimate_cross_entropy(batch: Batch) -> Tensor:
    """Cross-entropy, in nats, of the labels under the decoders' own estimate; (K,).

    An upper bound of H(S | Z), Z the code.
    """
    assert batch.logits is not None
    return _cross_entropy(batch.logits.flatten(0, 1).float(), batch.labels)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Means for each model, (K,), of logits (K·B, classes) and labels (K, B)."""
    losses = F.cross_entropy(logits, labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)
