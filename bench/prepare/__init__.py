"""All that can fail with a cure before a clock runs: builds, artefacts, plans and commands of the arms of a run."""
