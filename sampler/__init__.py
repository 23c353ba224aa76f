"""Which EMRs next: noisy codes with confidence and clean counts in; a batch with reasons out.

Sees arrays and tables only, so that it can be used, tested and timed without a model.
"""
