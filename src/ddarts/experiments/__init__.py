"""Experiments that compare methods: the plan, its trials, the statistics and the page of results."""
