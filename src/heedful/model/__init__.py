"""Any causal language model and its tokenizer: found, loaded, checked, adapted, saved."""
