"""Running Greenroom on one machine: installing, a private broker, a private database server, a supervisor.

Standard library only: these modules run before anything is installed. They know nothing of the product
but the commands that start its processes.
"""
