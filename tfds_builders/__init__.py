"""One TensorFlow Datasets folder per cohort; built without TensorFlow."""
