"""What is labelled: EMR files and a code set in; records, tasks and clean codes out.

Every other package speaks in these types; none of them needs torch or a web server.
"""
