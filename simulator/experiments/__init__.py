"""Questions about quality, each answered over several seeds on simulated and real records.

Every module has `run(quick, seeds, progress=None, data=None, kept=NOTHING) -> Measured`; rows that
`kept` holds are not made again.
"""
