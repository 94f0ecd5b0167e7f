"""Classification: what a frozen classifier still reads in a reconstruction."""

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
        models, size = batch.labels.shape
        logits = self.classifier(batch.reconstruction.flatten(0, 1)).float()
        losses = F.cross_entropy(logits, batch.labels.flatten(), reduction="none")
        return losses.view(models, size).mean(1)
