"""Server and client as reducers: ``handle(event) -> effects``, and nothing else."""
