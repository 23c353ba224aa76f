"""The lead's page: a workspace's files in; every figure of the project and one HTML page out.

The page is one file without outside references: the backend serves it, and it opens from disk.
"""
