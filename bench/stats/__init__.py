"""Every number: percentiles, intervals, comparisons, ranks. Reads and writes no file and knows no clock."""
