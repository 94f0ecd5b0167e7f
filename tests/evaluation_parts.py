"""Quick protocols, stripes that are easily told apart, and a judge that reads their rows."""

from quadrate.evaluation import (
    Protocol,
)

QUICK = Protocol(
    batch=50,
    training_images=150,
    directions=16,
    kid_blocks=4,
    critic_steps=20,
    critic_widths=(16,),
    judge_steps=60,
    judge_batch=32,
    judge_widths=(16,),
)
