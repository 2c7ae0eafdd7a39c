"""Import plugins: what may be done to an image between staging and its stores."""
