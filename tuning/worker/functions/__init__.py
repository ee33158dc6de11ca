"""A worker's trials where a function of the user's runs them. No Keras, unless the function imports it."""
