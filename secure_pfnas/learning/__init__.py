"""Who learns: partitions, local training, evaluation, aggregation, strategies."""
