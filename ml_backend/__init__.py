"""The plugin: Label Studio's requests and the `clinicoco` command in; predictions and jobs out.

The only package that knows Flask, the job queue and the Label Studio SDK.
"""
