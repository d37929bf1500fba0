"""The LSTM classifier: Keras model, training, and inference on CPUs and GPUs."""
