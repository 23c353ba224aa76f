"""Stand-in hospital: a code set and a knowledge pack in; EMRs with gold and noisy names out.

Also simulated coders, and the experiments that measure the other packages on both.
"""
