"""A run, or an ablation, as one page that fetches nothing."""
