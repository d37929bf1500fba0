"""Texts to token ids: tokenizer, vocabulary, bigrams, co-occurrence."""
