"""Speed and memory of the update phase, as ratios to stock TRL on the same rollouts in the same process."""
