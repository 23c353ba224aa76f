"""Learning: EMRs with noisy and clean codes in; a checkpoint and suggestions out.

Labels diagnosis names automatically, trains the three stages, and fuses what every member says.
"""
