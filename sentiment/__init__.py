"""The model as a library: texts in, tokens, ids and probabilities out. Imports no Ray."""
